{{/* A connection string from a Secret: of the trial database, which writes the Secret itself, or of one's own server. */}}
{{- define "signet.databaseUrl" -}}
{{- $store := index .root.Values.ledger .store -}}
{{- $trial := .root.Values.trialDatabases.enabled -}}
valueFrom:
  secretKeyRef:
    name: {{ ternary (printf "signet-trial-%s" .store) $store.existingSecret $trial | quote }}
    key: {{ ternary (ternary "owner-url" "url" (eq .key "ownerUrlKey")) (index $store .key) $trial | quote }}
{{- end }}

{{/* The keyring: made by the first init container that comes, kept in a Secret, followed by every replica. */}}
{{- define "signet.ledgerKeysEnv" -}}
- name: SIGNET_LEDGER_KEYRING
  value: /var/run/signet/keys/keyring.json
- name: SIGNET_LEDGER_KEYS_SECRET
  value: {{ .Release.Namespace }}/signet-ledger-keys
{{- end }}

{{- define "signet.ledgerEnv" -}}
{{ include "signet.ledgerKeysEnv" . }}
- name: SIGNET_LEDGER_LISTEN
  value: {{ printf "%s:8090" .Values.listenHost | quote }}
- name: SIGNET_LEDGER_TLS_CERT
  value: /var/run/signet/tls/tls.crt
- name: SIGNET_LEDGER_TLS_KEY
  value: /var/run/signet/tls/tls.key
- name: SIGNET_LEDGER_AUDIENCE
  value: signet-ledger
- name: SIGNET_LEDGER_SERVICE_ACCOUNTS
  value: /etc/signet/identity/service-accounts.json
- name: SIGNET_LEDGER_DENIED_PRODUCERS
  value: /etc/signet/identity/denied-producers.json
- name: SIGNET_NAMESPACE_MAP
  value: /etc/signet/identity/namespaces.json
- name: SIGNET_LEDGER_RETENTION_POLICIES
  value: /etc/signet/retention/policies.json
- name: SIGNET_LEDGER_PLATFORM_TENANT
  value: {{ .Values.platformTenant | quote }}
- name: SIGNET_TRUST_DOMAIN
  value: {{ .Values.ledger.trustDomain | quote }}
{{- end }}

{{- define "signet.databaseCaMount" -}}
{{- with .Values.ledger.databaseCa.secretName }}
- name: database-ca
  mountPath: /etc/signet/database-ca
  readOnly: true
{{- end }}
{{- end }}

{{/* Service accounts that are more than a workload: the operator, which writes down revisions, governance, which writes down what is done in every tenant, and those of the values. */}}
{{- define "signet.serviceAccounts" -}}
{{- $operator := dict "tenant" .Values.platformTenant "scopes" (list "audit:write") -}}
{{- $own := dict (printf "%s/signet-operator" .Release.Namespace) $operator -}}
{{- if .Values.governance.enabled -}}
{{- $scopes := list "audit:write" "audit:read" "audit:personal" -}}
{{- $governance := dict "tenant" .Values.platformTenant "tenants" "*" "producer_id" "signet/governance" "scopes" $scopes -}}
{{- $_ := set $own (printf "%s/signet-governance" .Release.Namespace) $governance -}}
{{- end -}}
{{ mustToPrettyJson (dict "version" 1 "service_accounts" (merge $own .Values.ledger.serviceAccounts)) }}
{{- end }}

{{/* ledger/identity/denied.ts */}}
{{- define "signet.deniedProducers" -}}
{{ mustToPrettyJson (dict "version" 1 "denied" .Values.ledger.deniedProducers) }}
{{- end }}

{{/* The pod's own token for the API server, its authority and its namespace: what automountServiceAccountToken would mount. */}}
{{- define "signet.apiTokenVolume" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}
