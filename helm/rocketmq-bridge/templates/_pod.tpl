{{/* Whether the chart itself mounts the token with which the service account takes on the RAM role. */}}
{{- define "rocketmq-bridge.mountsToken" -}}
{{- if and .Values.rrsa.enabled .Values.rrsa.roleArn }}yes{{ end }}
{{- end }}

{{- define "rocketmq-bridge.tokenFolder" -}}
/var/run/secrets/ack.alibabacloud.com/rrsa-tokens
{{- end }}

{{/* What every pod of the release has in common, and what its volumes are. */}}
{{- define "rocketmq-bridge.pod" -}}
serviceAccountName: {{ include "rocketmq-bridge.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $secrets := include "rocketmq-bridge.secretSources" . | trim }}
{{- $token := include "rocketmq-bridge.mountsToken" . }}
{{- if or $secrets $token .Values.extraVolumes }}
volumes:
  {{- if $secrets }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources:
        {{- $secrets | nindent 8 }}
  {{- end }}
  {{- if $token }}
  - name: rrsa-token
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken:
            path: token
            audience: sts.aliyuncs.com
            expirationSeconds: {{ .Values.rrsa.tokenExpirationSeconds }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What their containers have in common: the image, its security, the settings, the mounts. */}}
{{- define "rocketmq-bridge.container" -}}
image: {{ include "rocketmq-bridge.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "rocketmq-bridge.env" . | trim | nindent 2 }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $secrets := include "rocketmq-bridge.secretSources" . | trim }}
{{- $token := include "rocketmq-bridge.mountsToken" . }}
{{- if or $secrets $token .Values.extraVolumeMounts }}
volumeMounts:
  {{- if $secrets }}
  - name: secrets
    mountPath: {{ include "rocketmq-bridge.secretsFolder" . }}
    readOnly: true
  {{- end }}
  {{- if $token }}
  - name: rrsa-token
    mountPath: {{ include "rocketmq-bridge.tokenFolder" . }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The labels that the pods of the release have besides those by which they are selected. */}}
{{- define "rocketmq-bridge.podLabels" -}}
{{- if and .Values.rrsa.enabled .Values.rrsa.roleName }}
pod-identity.alibabacloud.com/injection: "on"
{{- end }}
{{- with merge (dict) .Values.podLabels .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}
