{{- define "rocketmq-bridge.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What everything is called: the release, with the chart's name where it doesn't hold that. */}}
{{- define "rocketmq-bridge.fullname" -}}
{{- $name := include "rocketmq-bridge.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "rocketmq-bridge.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "rocketmq-bridge.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "rocketmq-bridge.image" -}}
{{- $image := .Values.image }}
{{- with $image.digest }}
{{- printf "%s@%s" $image.repository . }}
{{- else }}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* By these the pods of the release are selected; they never change. */}}
{{- define "rocketmq-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rocketmq-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Those that run the bridge, and not those of `helm test`. */}}
{{- define "rocketmq-bridge.bridgeLabels" -}}
{{ include "rocketmq-bridge.selectorLabels" . }}
app.kubernetes.io/component: bridge
{{- end }}

{{- define "rocketmq-bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "rocketmq-bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rocketmq-bridge.metadata" -}}
name: {{ include "rocketmq-bridge.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "rocketmq-bridge.labels" . | nindent 2 }}
{{- end }}
