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
