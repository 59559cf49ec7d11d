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

{{- define "signet.governanceDatabaseCaMount" -}}
{{- with .Values.governance.databaseCa.secretName }}
- name: database-ca
  mountPath: /etc/signet/database-ca
  readOnly: true
{{- end }}
{{- end }}
