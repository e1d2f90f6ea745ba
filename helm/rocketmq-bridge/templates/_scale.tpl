{{- define "rocketmq-bridge.autoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}yes{{ end }}
{{- end }}

{{/* How many pods there can be, but for those that an update brings besides. */}}
{{- define "rocketmq-bridge.mostReplicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas (eq "yes" (include "rocketmq-bridge.autoscaled" .)) }}
{{- end }}

{{- define "rocketmq-bridge.severalReplicas" -}}
{{- if gt (include "rocketmq-bridge.mostReplicas" . | int) 1 }}yes{{ end }}
{{- end }}

{{/* By these labels a series is this release's consumer group's: the bridge puts them on each of its metrics. */}}
{{- define "rocketmq-bridge.series" -}}
topic={{ .Values.rocketmq.topic | quote }},group={{ .Values.rocketmq.groupId | quote }}
{{- end }}

{{- define "rocketmq-bridge.topologySpread" -}}
{{- $spread := .Values.topologySpreadConstraints }}
{{- if and (kindIs "invalid" $spread) (include "rocketmq-bridge.severalReplicas" .) }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $spread = append ($spread | default list) (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" "ScheduleAnyway") }}
{{- end }}
{{- end }}
{{- $pods := dict "labelSelector" (dict "matchLabels" (include "rocketmq-bridge.bridgeLabels" . | fromYaml)) }}
{{- $constraints := list }}
{{- range $spread }}{{ $constraints = append $constraints (merge (dict) . $pods) }}{{ end }}
{{- with $constraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
