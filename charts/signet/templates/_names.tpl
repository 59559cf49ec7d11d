{{/* Labels of every object; `component` names the part. Called with (dict "root" $ "component" "ledger"). */}}
{{- define "signet.labels" -}}
{{ include "signet.selector" . }}
app.kubernetes.io/part-of: signet
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What a selector may rest on: never a version, for a Deployment's selector cannot change. */}}
{{- define "signet.selector" -}}
app.kubernetes.io/name: signet-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Labels of pods: no chart version, so that an upgrade that changes nothing restarts nothing. */}}
{{- define "signet.podLabels" -}}
{{ include "signet.selector" . }}
app.kubernetes.io/part-of: signet
{{- end }}

{{/* An image by name (proxy, ledger, operator, redirect, postgresTrial): by digest where one is given, else by tag. */}}
{{- define "signet.image" -}}
{{- $image := .root.Values.image -}}
{{- $digest := index $image.digests .name | default "" -}}
{{- $repository := printf "%s/signet-%s" (trimSuffix "/" $image.registry) (kebabcase .name) -}}
{{- if $digest -}}
{{ $repository }}@{{ $digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "signet.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}
