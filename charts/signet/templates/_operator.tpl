{{- define "signet.operatorEnv" -}}
- name: SIGNET_NAMESPACE
  value: {{ .Release.Namespace }}
- name: SIGNET_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: SIGNET_POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: SIGNET_WEBHOOKS_LISTEN
  value: {{ printf "%s:9443" .Values.listenHost | quote }}
- name: SIGNET_BUNDLES_LISTEN
  value: {{ printf "%s:8443" .Values.listenHost | quote }}
- name: SIGNET_ADMIN_LISTEN
  value: {{ printf "%s:9464" .Values.listenHost | quote }}
- name: SIGNET_OPA_MEMORY_MIB
  value: {{ .Values.operator.opaMemoryMiB | quote }}
- name: SIGNET_STANDARD_PACK
  value: {{ .Values.operator.standardPack | quote }}
- name: SIGNET_INJECTION_SETTINGS
  value: /etc/signet/settings/injection.json
- name: SIGNET_NAMESPACE_MAP
  value: /etc/signet/identity/namespaces.json
- name: SIGNET_LEDGER_URL
  value: https://signet-ledger.{{ .Release.Namespace }}.svc:8090
- name: SIGNET_LEDGER_TOKEN_FILE
  value: /var/run/signet/tokens/ledger
- name: SIGNET_PLATFORM_TENANT
  value: {{ .Values.platformTenant | quote }}
{{- if eq .Values.certificates.issuer "cert-manager" }}
- name: SIGNET_CERTIFICATES
  value: files
- name: SIGNET_TLS_CERT_FILE
  value: /var/run/signet/tls/tls.crt
- name: SIGNET_TLS_KEY_FILE
  value: /var/run/signet/tls/tls.key
- name: SIGNET_TRUST_CA_FILE
  value: /var/run/signet/tls/ca.crt
{{- end }}
{{- end }}

{{/* What Node needs, trials of rules in its threads among it, 1.5 GiB at most, and what OPA may have: past the limit the node ends the whole container, not one process of it. */}}
{{- define "signet.operatorResources" -}}
{{- $derived := dict "limits" (dict "memory" (printf "%dMi" (add 1536 (int .Values.operator.opaMemoryMiB)))) -}}
{{ toYaml (merge (deepCopy .Values.operator.resources) $derived) }}
{{- end }}

{{/* core/injection/settings.ts, without the authority, which the operator adds. */}}
{{- define "signet.injectionSettings" -}}
{{- $images := dict "proxy" (include "signet.image" (dict "root" . "name" "proxy")) "redirect" (include "signet.image" (dict "root" . "name" "redirect")) "pullPolicy" .Values.image.pullPolicy -}}
{{- $services := dict "ledgerUrl" (printf "https://signet-ledger.%s.svc:8090" .Release.Namespace) "bundlesUrl" (printf "https://signet-operator.%s.svc:8443" .Release.Namespace) -}}
{{ mustToPrettyJson (mergeOverwrite (dict "version" 1 "images" $images "listenHost" .Values.listenHost) $services (deepCopy .Values.injection)) }}
{{- end }}
