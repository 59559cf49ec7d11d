{{/* A connection string from a Secret: of the trial database, which writes the Secret itself, or of one's own server. */}}
{{- define "signet.governanceDatabaseUrl" -}}
{{- $database := .root.Values.governance.database -}}
{{- $trial := .root.Values.trialDatabases.enabled -}}
valueFrom:
  secretKeyRef:
    name: {{ ternary "signet-trial-work" $database.existingSecret $trial | quote }}
    key: {{ ternary (ternary "governance-owner-url" "governance-url" (eq .key "ownerUrlKey")) (index $database .key) $trial | quote }}
{{- end }}

{{- define "signet.governanceEnv" -}}
- name: SIGNET_DATABASE_URL
  {{- include "signet.governanceDatabaseUrl" (dict "root" . "key" "urlKey") | nindent 2 }}
- name: SIGNET_DATABASE_POOL_SIZE
  value: {{ .Values.governance.database.poolSize | quote }}
- name: SIGNET_GOVERNANCE_LISTEN
  value: {{ printf "%s:8000" .Values.listenHost | quote }}
- name: SIGNET_GOVERNANCE_TLS_CERT
  value: /var/run/signet/tls/tls.crt
- name: SIGNET_GOVERNANCE_TLS_KEY
  value: /var/run/signet/tls/tls.key
- name: SIGNET_GOVERNANCE_LEDGER_URL
  value: https://signet-ledger.{{ .Release.Namespace }}.svc:8090
- name: SIGNET_GOVERNANCE_LEDGER_CA
  value: /etc/signet/trust/ca.crt
- name: SIGNET_GOVERNANCE_LEDGER_TOKEN_FILE
  value: /var/run/signet/tokens/ledger
- name: SIGNET_GOVERNANCE_RULES_NAMESPACE
  value: {{ .Release.Namespace | quote }}
{{- with include "signet.scanNamespaces" . }}
- name: SIGNET_GOVERNANCE_SCAN_NAMESPACES
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* TENANT=NAMESPACE, with commas between. */}}
{{- define "signet.scanNamespaces" -}}
{{- $pairs := list -}}
{{- range $tenant, $namespaces := .Values.governance.scanNamespaces -}}
{{- range $namespaces -}}
{{- $pairs = append $pairs (printf "%s=%s" $tenant .) -}}
{{- end -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end }}

{{/* Where it keeps files, and the files with its keys; what governance.env has under the same name stands there alone. */}}
{{- define "signet.governanceStoreEnv" -}}
{{- $own := list -}}
{{- range .Values.governance.env }}{{- $own = append $own .name }}{{- end }}
{{- $evidence := .Values.governance.evidence }}
{{- $plain := dict "SIGNET_EVIDENCE_ARTIFACT_BUCKET" $evidence.bucket "SIGNET_EVIDENCE_ENDPOINT" $evidence.endpoint "SIGNET_EVIDENCE_REGION" $evidence.region }}
{{- $keys := "/var/run/signet/keys" }}
{{- if .Values.governance.bundleKey.secretName }}{{- $_ := set $plain "SIGNET_GOVERNANCE_BUNDLE_KEY_FILE" (printf "%s/bundle-key.json" $keys) }}{{- end }}
{{- if .Values.governance.sealingKey.secretName }}{{- $_ := set $plain "SIGNET_GOVERNANCE_SECRETS_KEY_FILE" (printf "%s/sealing-key" $keys) }}{{- end }}
{{- if .Values.governance.stripe.secretName }}{{- $_ := set $plain "SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE" (printf "%s/stripe.json" $keys) }}{{- end }}
{{- range $name, $value := $plain }}
{{- if and $value (not (has $name $own)) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- if $evidence.credentialsSecret }}
{{- range $name, $key := dict "AWS_ACCESS_KEY_ID" $evidence.accessKeyIdKey "AWS_SECRET_ACCESS_KEY" $evidence.secretAccessKeyKey }}
{{- if not (has $name $own) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $evidence.credentialsSecret | quote }}
      key: {{ $key | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secrets with its keys, each as one file of one volume; nothing where there is none. */}}
{{- define "signet.governanceKeySources" -}}
{{- $governance := .Values.governance }}
{{- range $path, $secret := dict "bundle-key.json" $governance.bundleKey "sealing-key" $governance.sealingKey "stripe.json" $governance.stripe }}
{{- if $secret.secretName }}
- secret:
    name: {{ $secret.secretName | quote }}
    items:
      - key: {{ $secret.key | quote }}
        path: {{ $path }}
{{- end }}
{{- end }}
{{- end }}

{{- define "signet.governanceDatabaseCaMount" -}}
{{- with .Values.governance.databaseCa.secretName }}
- name: database-ca
  mountPath: /etc/signet/database-ca
  readOnly: true
{{- end }}
{{- end }}
