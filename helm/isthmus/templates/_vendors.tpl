{{- /* Images and arguments of the servers that can stand in for ours. */ -}}
{{- define "isthmus.vendorImage" -}}
{{- $images := dict "vllm" "docker.io/vllm/vllm-openai:v0.32.0" "tgi" "ghcr.io/huggingface/text-generation-inference:3.3.6" "mii" "" -}}
{{- .Values.llm.image | default (index $images .Values.llm.backend) -}}
{{- end -}}

{{- define "isthmus.servedName" -}}
{{- .Values.llm.servedModelName | default (.Values.llm.model | trimPrefix "bundled:") -}}
{{- end -}}

{{- define "isthmus.vllmCommand" -}}
args:
  - --model={{ include "isthmus.modelPath" . }}
  - --served-model-name={{ include "isthmus.servedName" . }}
  - --tensor-parallel-size={{ .Values.llm.tensorParallel }}
  - --dtype={{ .Values.llm.dtype }}
  - --port={{ .Values.llm.port }}
  - --enable-prefix-caching
  {{- if .Values.mtls.enabled }}
  - --ssl-certfile=/etc/isthmus/tls/tls.crt
  - --ssl-keyfile=/etc/isthmus/tls/tls.key
  - --ssl-ca-certs=/etc/isthmus/tls/ca.crt
  - --ssl-cert-reqs=2
  - --enable-ssl-refresh
  {{- end }}
  {{- range .Values.llm.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- end -}}

{{- define "isthmus.tgiCommand" -}}
args:
  - --model-id={{ include "isthmus.modelPath" . }}
  - --num-shard={{ .Values.llm.tensorParallel }}
  - --dtype={{ .Values.llm.dtype }}
  - --port={{ .Values.llm.port }}
  {{- range .Values.llm.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- end -}}

{{- define "isthmus.miiCommand" -}}
command: [python3, -m, mii.entrypoints.openai_api_server]
args:
  - --model={{ include "isthmus.modelPath" . }}
  - --tensor-parallel={{ .Values.llm.tensorParallel }}
  - --port={{ .Values.llm.port }}
  {{- range .Values.llm.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- end -}}
