{{- /* Where the model lies inside an LLM pod. */ -}}
{{- define "isthmus.modelPath" -}}
{{- if eq .Values.modelStorage.kind "bundled" -}}{{ .Values.llm.model }}
{{- else -}}/models/{{ .Values.llm.model }}{{- end -}}
{{- end -}}

{{- /* Whether an init container has to bring the model into the pod: "true" or "". */ -}}
{{- define "isthmus.fetches" -}}
{{- $s := .Values.modelStorage -}}
{{- if or (eq $s.kind "blob") (and (eq $s.kind "share") (ne $s.cache.kind "none")) -}}true{{- end -}}
{{- end -}}

{{- define "isthmus.llmEnv" -}}
- name: LLM_MODEL
  value: {{ include "isthmus.modelPath" . | quote }}
- name: LLM_HOST
  value: 0.0.0.0
- name: LLM_PORT
  value: {{ .Values.llm.port | quote }}
- name: LLM_TENSOR_PARALLEL
  value: {{ .Values.llm.tensorParallel | quote }}
- name: LLM_DEVICE
  value: cuda
- name: LLM_DTYPE
  value: {{ .Values.llm.dtype }}
- name: LLM_CACHE_DIR
  value: /tmp/isthmus
- name: LLM_START_TIMEOUT_S
  value: {{ .Values.llm.startSeconds | quote }}
- name: LLM_DRAIN_TIMEOUT_S
  value: {{ .Values.llm.drainSeconds | quote }}
{{- with .Values.llm.servedModelName }}
- name: LLM_SERVED_MODEL_NAME
  value: {{ . | quote }}
{{- end }}
{{- with .Values.llm.apiKeySecret }}
- name: LLM_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: api-key
{{- end }}
{{- if .Values.mtls.enabled }}
- name: LLM_TLS_CERT
  value: /etc/isthmus/tls/tls.crt
- name: LLM_TLS_KEY
  value: /etc/isthmus/tls/tls.key
- name: LLM_TLS_CLIENT_CA
  value: /etc/isthmus/tls/ca.crt
- name: LLM_TLS_CLIENT_NAMES  # the gateway, and this pod's own probe
  value: {{ include "isthmus.fullname" . }}-gateway.{{ .Release.Namespace }}.svc,localhost
{{- end }}
{{- range $name, $value := .Values.llm.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- /* Where the ranks run: this pod and the job's workers. The operator's hostfile would name this pod by a DNS
record that exists only once it is ready. Takes a dict of `root`, `job` (its name) and `workers`. */ -}}
{{- define "isthmus.rankHosts" -}}
{{- $slots := .root.Values.llm.gpusPerPod -}}
localhost:{{ $slots }}
{{- range $i := until .workers -}}
,{{ $.job }}-worker-{{ $i }}.{{ $.job }}.{{ $.root.Release.Namespace }}.svc:{{ $slots }}
{{- end -}}
{{- end -}}

{{- define "isthmus.ncclEnv" -}}
{{- range $name, $value := .Values.llm.nccl }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
- name: HOME
  value: /home/isthmus
- name: TRITON_CACHE_DIR
  value: /tmp/triton
{{- end -}}

{{- define "isthmus.llmResources" -}}
requests:
  cpu: {{ .Values.llm.cpu | quote }}
  memory: {{ .Values.llm.memory }}
limits:
  cpu: {{ .Values.llm.cpu | quote }}
  memory: {{ .Values.llm.memory }}
  nvidia.com/gpu: {{ .Values.llm.gpusPerPod }}
  {{- if .Values.llm.rdma.enabled }}
  {{ .Values.llm.rdma.resource }}: {{ .Values.llm.rdma.count }}
  {{- end }}
{{- end -}}

{{- define "isthmus.llmContainerSecurity" -}}
{{ include "isthmus.containerSecurity" . }}
{{- if .Values.llm.rdma.enabled }}
  add: [IPC_LOCK]  # RDMA pins memory
{{- end }}
{{- end -}}

{{- /* Takes a dict of `root` and `path`. With mutual TLS the kubelet has no certificate to show. */ -}}
{{- define "isthmus.probe" -}}
{{- if .root.Values.mtls.enabled -}}
exec:
  command: [python3, /scripts/probe.py, "https://localhost:{{ .root.Values.llm.port }}{{ .path }}"]
timeoutSeconds: 5
{{- else -}}
httpGet:
  path: {{ .path }}
  port: llm
timeoutSeconds: 5
{{- end -}}
{{- end -}}

{{- /* Takes a dict of `root`, `health` and `ready`. A pod is alive while its process answers. */ -}}
{{- define "isthmus.probes" -}}
startupProbe:
  {{- include "isthmus.probe" (dict "root" .root "path" .health) | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ div (add .root.Values.llm.startSeconds 4) 5 }}
readinessProbe:
  {{- include "isthmus.probe" (dict "root" .root "path" .ready) | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 1
livenessProbe:
  {{- include "isthmus.probe" (dict "root" .root "path" .health) | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 3
{{- end -}}

{{- define "isthmus.llmMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
- {name: scripts, mountPath: /scripts, readOnly: true}
{{- if ne .Values.modelStorage.kind "bundled" }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .Values.mtls.enabled }}
- {name: tls, mountPath: /etc/isthmus/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "isthmus.llmVolumes" -}}
{{- $s := .Values.modelStorage -}}
- {name: tmp, emptyDir: {}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ .Values.llm.shm }}}}
- name: scripts
  configMap:
    name: {{ include "isthmus.scripts" . }}
{{- if and (eq $s.kind "share") (eq $s.cache.kind "none") }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "isthmus.modelClaim" . }}
    readOnly: true
{{- else if ne $s.kind "bundled" }}
- name: models
  {{- include "isthmus.cacheVolume" . | nindent 2 }}
{{- end }}
{{- if and (eq $s.kind "share") (ne $s.cache.kind "none") }}
- name: share
  persistentVolumeClaim:
    claimName: {{ include "isthmus.modelClaim" . }}
    readOnly: true
{{- end }}
{{- if .Values.mtls.enabled }}
- name: tls
  secret:
    secretName: {{ include "isthmus.llmName" . }}-tls
{{- end }}
{{- end -}}

{{- define "isthmus.cacheVolume" -}}
{{- $c := .Values.modelStorage.cache -}}
{{- if eq $c.kind "hostPath" -}}
hostPath:
  path: {{ $c.hostPath }}
  type: Directory
{{- else if and (eq $c.kind "ephemeral") $c.storageClass -}}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {{ $c.storageClass }}
      resources:
        requests:
          storage: {{ $c.size }}
{{- else -}}
emptyDir:
  sizeLimit: {{ $c.size }}
{{- end -}}
{{- end -}}

{{- /* Brings the model to where it is served from. Takes a dict of `root`, `source` (a directory, or "" for
the blob), `blob` and `target`. */ -}}
{{- define "isthmus.fetcher" -}}
image: {{ include "isthmus.image" (dict "root" .root "image" .root.Values.images.llm) }}
imagePullPolicy: {{ .root.Values.images.llm.pullPolicy }}
command: [python3, -m, llm_backend.models.fetch]
args:
  - {{ .source | default (printf "az://%s/%s" .blob.container .blob.prefix) | quote }}
  - {{ .target | quote }}
env:
  {{- if not .source }}
  - name: AZURE_STORAGE_ACCOUNT_NAME
    value: {{ .blob.account | quote }}
  {{- end }}
  - name: HOME
    value: /tmp
securityContext:
  {{- include "isthmus.containerSecurity" .root | nindent 2 }}
resources:
  requests: {cpu: "2", memory: 2Gi}
  limits: {cpu: "4", memory: 4Gi}
{{- end -}}

{{- define "isthmus.fetchInit" -}}
{{- $s := .Values.modelStorage -}}
{{- $source := ternary "" (printf "/share/%s" .Values.llm.model) (eq $s.kind "blob") -}}
initContainers:
  - name: fetch-model
    {{- include "isthmus.fetcher" (dict "root" . "source" $source "blob" $s.blob "target" (include "isthmus.modelPath" .)) | nindent 4 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: models, mountPath: /models}
      {{- if eq $s.kind "share" }}
      - {name: share, mountPath: /share, readOnly: true}
      {{- end }}
{{- end -}}

{{- /* Takes a dict of `root`, `serves` ("true" or "false") and `group` (pods of one replica). */ -}}
{{- define "isthmus.llmMetadata" -}}
labels:
  {{- include "isthmus.podLabels" (dict "root" .root "side" "llm") | nindent 2 }}
  isthmus.dev/serves: {{ .serves | quote }}
  isthmus.dev/replica: {{ .group | quote }}
  azure.workload.identity/use: {{ not (empty .root.Values.modelStorage.workloadIdentityClientId) | quote }}
annotations:
  {{- $ours := eq .root.Values.llm.backend "deepspeed" }}
  {{- $digest := ternary .root.Values.images.llm.digest (contains "@sha256:" .root.Values.llm.image) $ours }}
  {{- include "isthmus.skips" (dict "root" .root "probes" "" "llm" true "secrets" .root.Values.llm.apiKeySecret "digest" $digest) | nindent 2 }}
  checksum/scripts: {{ include (print .root.Template.BasePath "/llm-scripts.yaml") .root | sha256sum }}
{{- end -}}

{{- define "isthmus.llmSpec" -}}
serviceAccountName: {{ include "isthmus.llmName" . }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ add .Values.llm.drainSeconds 15 }}
{{- if .Values.llm.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
securityContext:
  {{- include "isthmus.podSecurity" . | nindent 2 }}
{{- include "isthmus.pullSecrets" . }}
{{ include "isthmus.gpuPlacement" . }}
{{- if include "isthmus.fetches" . }}
{{ include "isthmus.fetchInit" . }}
{{- end }}
{{- end -}}
