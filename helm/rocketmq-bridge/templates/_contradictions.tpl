{{/* What is wrong with the values, though each is right by itself: a sentence a line. */}}
{{- define "rocketmq-bridge.contradictions" -}}
{{- include "rocketmq-bridge.missing" . }}
{{- include "rocketmq-bridge.misplaced" . }}
{{- include "rocketmq-bridge.misdelivered" . }}
{{- include "rocketmq-bridge.misscaled" . }}
{{- include "rocketmq-bridge.misguarded" . }}
{{- end }}

{{/* Settings that are required. Where variables come from elsewhere, or a setting may be a secret, the bridge itself will say. */}}
{{- define "rocketmq-bridge.missing" -}}
{{- $given := concat (include "rocketmq-bridge.settings" . | fromYaml | keys) (keys .Values.secret) }}
{{- range .Values.extraEnv }}{{ $given = append $given .name }}{{ end }}
{{- $sinks := splitList "," (.Values.sink | default "" | nospace) }}
{{- $required := dict
  "BRIDGE_ROCKETMQ__ENDPOINT" "rocketmq.endpoint, the instance's HTTP endpoint,"
  "BRIDGE_ROCKETMQ__TOPIC" "rocketmq.topic"
  "BRIDGE_ROCKETMQ__GROUP_ID" "rocketmq.groupId, the consumer group,"
  "BRIDGE_SINK" "sink, where events go: kafka, webhook, stdout, or another that the image has," }}
{{- if has "kafka" $sinks }}
{{- $_ := set $required "BRIDGE_KAFKA__BOOTSTRAP_SERVERS" "kafka.bootstrapServers" }}
{{- $_ := set $required "BRIDGE_KAFKA__TOPIC" "kafka.topic" }}
{{- end }}
{{- if and (has "webhook" $sinks) (not (or .Values.existingSecret .Values.extraSecrets)) }}
{{- $_ := set $required "BRIDGE_WEBHOOK__URL" "webhook.url" }}
{{- end }}
{{- range $name, $what := $required }}
{{- if not (or $.Values.envFrom (has $name $given)) }}
{{ $what }} is required
{{- end }}
{{- end }}
{{- end }}

{{/* What stands in two places, or in the wrong one. */}}
{{- define "rocketmq-bridge.misplaced" -}}
{{- $settings := include "rocketmq-bridge.settings" . | fromYaml }}
{{- range .Values.extraEnv }}
{{- if hasKey $settings .name }}
extraEnv holds {{ .name }}, which other values set too: keep one of them
{{- end }}
{{- end }}
{{- if and .Values.secret .Values.existingSecret }}
secret and existingSecret are both set: give one of them, or put the other among extraSecrets
{{- end }}
{{- with .Values.rrsa }}
{{- if .enabled }}
{{- if eq (empty .roleName) (empty .roleArn) }}
rrsa needs roleName, where the cluster has ack-pod-identity-webhook, or else roleArn; and not both
{{- end }}
{{- if and .roleArn (not .oidcProviderArn) }}
rrsa.roleArn needs rrsa.oidcProviderArn
{{- end }}
{{- if hasKey $.Values.secret "BRIDGE_ROCKETMQ__ACCESS_KEY_ID" }}
rrsa is enabled, but secret holds an access key, which would be used in its place: remove one of them
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rocketmq-bridge.misdelivered" -}}
{{- $kafka := has "kafka" (splitList "," (.Values.sink | default "" | nospace)) }}
{{- if and .Values.rocketmq.ordered $kafka (not (has (.Values.kafka.key | default "auto") (list "auto" "sharding"))) }}
rocketmq.ordered needs the sharding key as the key in Kafka, and kafka.key is {{ .Values.kafka.key }}: leave it at auto
{{- end }}
{{- if and .Values.delivery.maxDeliveries (not .Values.deadLetter.sink) }}
delivery.maxDeliveries needs deadLetter.sink: what has been delivered so often goes there
{{- end }}
{{- $here := list "" .Values.kafka.topic }}
{{- if and $kafka (eq "kafka" (.Values.deadLetter.sink | default "")) (has (.Values.deadLetter.kafka.topic | default "") $here) }}
deadLetter.kafka.topic must be set, and be another than kafka.topic: dead letters must go elsewhere than events
{{- end }}
{{- if and .Values.management.required (not .Values.management.enabled) }}
management.required needs management.enabled
{{- end }}
{{- end }}

{{- define "rocketmq-bridge.misscaled" -}}
{{- with .Values.autoscaling }}
{{- if and .hpa.enabled .keda.enabled }}
autoscaling.hpa and autoscaling.keda are both enabled, and would scale against each other: choose one
{{- end }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
autoscaling.minReplicas is {{ .minReplicas }}, more than autoscaling.maxReplicas, which is {{ .maxReplicas }}
{{- end }}
{{- if and .hpa.enabled (not (dig "requests" "cpu" "" $.Values.resources)) }}
autoscaling.hpa needs resources.requests.cpu: the utilisation is a share of it
{{- end }}
{{- if .keda.enabled }}
{{- if not $.Values.management.enabled }}
autoscaling.keda needs management.enabled: only the management API knows the backlog
{{- end }}
{{- if and (eq .keda.scaler "prometheus") (not .keda.prometheus.serverAddress) }}
autoscaling.keda.prometheus.serverAddress is required: the URL of the Prometheus that KEDA asks
{{- end }}
{{- if and (eq .keda.scaler "metrics-api") (not $.Values.service.enabled) }}
autoscaling.keda.scaler metrics-api needs service.enabled: through it KEDA finds the pods
{{- end }}
{{- end }}
{{- end }}
{{- $rolling := eq .Values.strategy.type "RollingUpdate" }}
{{- if and $rolling (not .Values.strategy.maxSurge) (not .Values.strategy.maxUnavailable) }}
strategy.maxSurge and strategy.maxUnavailable are both 0, so that no update could begin
{{- end }}
{{- $replicas := include "rocketmq-bridge.mostReplicas" . | int }}
{{- $surge := ternary .Values.strategy.maxSurge 0 $rolling | int }}
{{- $pollers := int .Values.rocketmq.maxPollers }}
{{- $connections := mul (add $replicas $surge) (add $pollers 1) | int }}{{/* one more a pod, for the acks beside the flow */}}
{{- $left := sub .Values.connectionBudget.instance .Values.connectionBudget.usedByOthers | int }}
{{- if gt $connections $left }}
({{ $replicas }} replicas + {{ $surge }} of strategy.maxSurge) × ({{ $pollers }} of rocketmq.maxPollers + 1 for acks) are {{ $connections }} connections, and connectionBudget leaves {{ $left }}: beyond it the broker answers long polls at once, which costs calls; lower one of them
{{- end }}
{{- end }}

{{- define "rocketmq-bridge.misguarded" -}}
{{- if and .Values.terminationGracePeriodSeconds (le (int .Values.terminationGracePeriodSeconds) (int .Values.shutdown.graceSeconds)) }}
terminationGracePeriodSeconds is {{ .Values.terminationGracePeriodSeconds }}, and must be more than shutdown.graceSeconds, which is {{ .Values.shutdown.graceSeconds }}: else pods are killed amid their drain
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled }}
metrics.podMonitor and metrics.serviceMonitor are both enabled, and every pod would be scraped twice: choose one
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.service.enabled) }}
metrics.serviceMonitor needs service.enabled
{{- end }}
{{- with .Values.networkPolicy }}
{{- if and .cilium.enabled (not .enabled) }}
networkPolicy.cilium needs networkPolicy.enabled, to which it adds
{{- end }}
{{- if and .enabled (not .egress) (not .cilium.enabled) }}
networkPolicy.egress is empty, so that no message could flow: name where the pods may go, the instance's endpoint first of all
{{- end }}
{{- end }}
{{- end }}
