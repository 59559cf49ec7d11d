{{/* Rules that several NetworkPolicies have. */}}
{{- define "signet.egressDns" -}}
- to:
    - namespaceSelector: {}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "signet.egressTo" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .cidrs }}
  to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* Without a namespace nothing: an empty `from` would let everybody in. */}}
{{- define "signet.ingressMetrics" -}}
{{- if .root.Values.networkPolicies.metrics.namespaces }}
- ports:
    - {protocol: TCP, port: {{ .port }}}
  from:
    {{- range .root.Values.networkPolicies.metrics.namespaces }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ . | quote }}
    {{- end }}
{{- end }}
{{- end }}
