{{- /* Names and labels. */ -}}
{{- define "isthmus.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}{{ .Release.Name }}
{{- else -}}{{ .Release.Name }}-{{ $name }}{{- end -}}
{{- end -}}

{{- define "isthmus.llmName" -}}{{ include "isthmus.fullname" . }}-llm{{- end -}}
{{- define "isthmus.rayAccount" -}}{{ include "isthmus.fullname" . }}-ray{{- end -}}
{{- define "isthmus.modelClaim" -}}{{ include "isthmus.fullname" . }}-models{{- end -}}
{{- define "isthmus.rayTables" -}}{{ include "isthmus.fullname" . }}-ray-tables{{- end -}}
{{- define "isthmus.scripts" -}}{{ include "isthmus.fullname" . }}-llm-scripts{{- end -}}

{{- define "isthmus.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "isthmus.labels" -}}
{{ include "isthmus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Pod labels by side: ray, llm, job or test. Takes a dict of `root` and `side`. */ -}}
{{- define "isthmus.podLabels" -}}
{{ include "isthmus.selector" .root }}
isthmus.dev/side: {{ .side }}
{{- end -}}

{{- /* Takes a dict of `root` and `image`, one of .Values.images. */ -}}
{{- define "isthmus.image" -}}
{{- if .image.digest -}}{{ .image.repository }}@{{ .image.digest }}
{{- else -}}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- /* Whether KubeRay moves traffic step by step through a Gateway of its own: "true" or "". */ -}}
{{- define "isthmus.incremental" -}}
{{- if eq .Values.serve.upgrade.type "NewClusterWithIncrementalUpgrade" -}}true{{- end -}}
{{- end -}}

{{- /* Pods of the Gateway that KubeRay makes for the incremental upgrade. */ -}}
{{- define "isthmus.gatewayPods" -}}
gateway.networking.k8s.io/gateway-name: {{ include "isthmus.fullname" . }}-gateway
{{- end -}}

{{- /* The Service that reaches the gateway replicas, whichever Ray cluster serves. KubeRay makes it, or, for the
incremental upgrade, the implementation of its Gateway. */ -}}
{{- define "isthmus.frontService" -}}
{{- $u := .Values.serve.upgrade -}}
{{- $name := include "isthmus.fullname" . -}}
{{- if include "isthmus.incremental" . -}}{{ $u.gatewayService | default (printf "%s-gateway-%s" $name $u.gatewayClassName) }}
{{- else -}}{{ $name }}-serve-svc{{- end -}}
{{- end -}}

{{- define "isthmus.frontPort" -}}{{ ternary 80 .Values.serve.port (not (empty (include "isthmus.incremental" .))) }}{{- end -}}
