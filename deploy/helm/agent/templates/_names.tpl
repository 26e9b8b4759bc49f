{{- define "agent.name" -}}
{{- .Values.name | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "agent.selector" -}}
app.kubernetes.io/name: antiphon-agent
app.kubernetes.io/instance: {{ include "agent.name" . }}
{{- end -}}

{{- define "agent.labels" -}}
{{ include "agent.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: antiphon
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The agent's group, which KEDA looks at: as the mesh's names are made. */}}
{{- define "agent.group" -}}
{{- $agent := .Values.agent | default (last (splitList ":" (first .Values.run)) | trimSuffix ".py") -}}
{{- if .Values.namespace }}{{ .Values.namespace }}.{{ end }}{{ $agent -}}
{{- end -}}
