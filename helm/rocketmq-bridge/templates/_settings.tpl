{{/*
The settings among the values, as YAML: the bridge's name of each, and its text. `level` is one level of them and `prefix` what
their names begin with: rocketmq.maxPollers is BRIDGE_ROCKETMQ__MAX_POLLERS. What is null or empty is left to the bridge.
*/}}
{{- define "rocketmq-bridge.flat" -}}
{{- range $key, $value := .level }}
{{- $name := printf "%s%s" $.prefix (regexReplaceAll "([A-Z])" $key "_${1}" | upper) }}
{{- if kindIs "map" $value }}
{{- include "rocketmq-bridge.flat" (dict "level" $value "prefix" (printf "%s__" $name)) }}
{{- else if not (has $value (list nil "")) }}
{{ $name }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rocketmq-bridge.settings" -}}
{{- $level := pick .Values "rocketmq" "sink" "kafka" "webhook" "deadLetter" "event" "delivery" "ledger" "management" "tracing" "http" "log" "shutdown" }}
{{- include "rocketmq-bridge.flat" (dict "level" $level "prefix" "BRIDGE_") }}
{{- end }}

{{/* Where the secrets' files are: a folder of the bridge's own, as Kubernetes has its own in /run/secrets, too. */}}
{{- define "rocketmq-bridge.secretsFolder" -}}
/run/secrets/bridge
{{- end }}

{{/* The sources of that folder: the Secret made here, the one that is there already, and further ones. */}}
{{- define "rocketmq-bridge.secretSources" -}}
{{- if .Values.secret }}
- secret:
    name: {{ include "rocketmq-bridge.fullname" . }}
{{- end }}
{{- with .Values.existingSecret }}
- secret:
    name: {{ . }}
{{- end }}
{{- range .Values.extraSecrets }}
- secret:
    name: {{ .name }}
    {{- with .items }}
    items:
      {{- range $key, $name := . }}
      - key: {{ $key }}
        path: {{ $name }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Whether there is an access key, or may be one where the chart can't look: what is there already isn't known by its keys. */}}
{{- define "rocketmq-bridge.mayHaveAccessKey" -}}
{{- $unknown := or .Values.existingSecret .Values.envFrom .Values.extraVolumeMounts }}
{{- $names := keys .Values.secret }}
{{- range .Values.extraEnv }}{{ $names = append $names (upper .name) }}{{ end }}
{{- range .Values.extraSecrets }}
{{- $unknown = or $unknown (not .items) }}
{{- range .items }}{{ $names = append $names (upper .) }}{{ end }}
{{- end }}
{{- if or $unknown (has "BRIDGE_ROCKETMQ__ACCESS_KEY_ID" $names) }}yes{{ end }}
{{- end }}

{{- define "rocketmq-bridge.env" -}}
{{- range $name, $text := include "rocketmq-bridge.settings" . | fromYaml }}
- name: {{ $name }}
  value: {{ $text | replace "$(" "$$(" | quote }}
{{- end }}
{{- if include "rocketmq-bridge.secretSources" . | trim }}
- name: BRIDGE_SECRETS_DIR
  value: {{ include "rocketmq-bridge.secretsFolder" . }}
{{- end }}
{{- if include "rocketmq-bridge.mountsToken" . }}
- name: ALIBABA_CLOUD_ROLE_ARN
  value: {{ .Values.rrsa.roleArn }}
- name: ALIBABA_CLOUD_OIDC_PROVIDER_ARN
  value: {{ .Values.rrsa.oidcProviderArn }}
- name: ALIBABA_CLOUD_OIDC_TOKEN_FILE
  value: {{ include "rocketmq-bridge.tokenFolder" . }}/token
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
