{{- /* Serve's own configuration, the body of serveConfigV2. */ -}}
{{- define "isthmus.serveConfig" -}}
{{- $s := .Values.serve -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: {{ $s.port }}
  request_timeout_s: {{ add $s.streamSeconds 30 }}
  keep_alive_timeout_s: 75
logging_config:
  encoding: JSON
  enable_access_log: false
applications:
  - name: isthmus
    route_prefix: /
    import_path: serve_app.app:app
    deployments:
      - name: Gateway
        max_replicas_per_node: 2
        graceful_shutdown_timeout_s: {{ $s.streamSeconds }}
        {{- include "isthmus.scaled" (merge (dict "policy" "serve_app.autoscaling:LLMAware") $s.gateway) | nindent 8 }}
      - name: Retriever
        max_replicas_per_node: 4
        graceful_shutdown_timeout_s: 20
        {{- include "isthmus.scaled" $s.retriever | nindent 8 }}
      - name: Ingestor
        num_replicas: 1
        graceful_shutdown_timeout_s: 120
        {{- include "isthmus.admitted" $s.ingestor | nindent 8 }}
{{- end -}}

{{- define "isthmus.scaled" -}}
autoscaling_config:
  min_replicas: {{ .minReplicas }}
  max_replicas: {{ .maxReplicas }}
  target_ongoing_requests: {{ .targetOngoingRequests }}
  upscale_delay_s: 5
  downscale_delay_s: 300
  {{- with .policy }}
  policy:
    policy_function: {{ . }}
  {{- end }}
{{ include "isthmus.admitted" . }}
{{- end -}}

{{- define "isthmus.admitted" -}}
max_ongoing_requests: {{ .maxOngoingRequests }}
max_queued_requests: {{ .maxQueuedRequests }}
ray_actor_options:
  num_cpus: {{ .cpus }}
  num_gpus: 0
{{- end -}}

{{- define "isthmus.llmUrl" -}}
{{- if and (eq .Values.llm.backend "external") .Values.llm.external.tls -}}
https://{{ .Values.llm.external.host }}:{{ .Values.llm.port }}/v1
{{- else -}}
{{ ternary "https" "http" .Values.mtls.enabled }}://{{ include "isthmus.llmName" . }}.{{ .Release.Namespace }}.svc:{{ .Values.llm.port }}/v1
{{- end -}}
{{- end -}}

{{- /* Takes a dict of `name`, `secret` and `key`. */ -}}
{{- define "isthmus.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{- define "isthmus.rayEnv" -}}
- name: RAG_LLM_URL
  value: {{ include "isthmus.llmUrl" . | quote }}
{{- if eq .Values.serve.ingress "haproxy" }}
- name: RAY_SERVE_ENABLE_HA_PROXY
  value: "1"
- name: RAY_SERVE_THROUGHPUT_OPTIMIZED
  value: "1"
- name: RAY_SERVE_HAPROXY_BINARY_PATH
  value: /opt/isthmus/bin/isthmus-haproxy
- name: RAY_SERVE_HAPROXY_RETRY_ON
  value: conn-failure empty-response
- name: RAY_SERVE_HAPROXY_RETRIES
  value: "6"
- name: RAY_SERVE_HAPROXY_TUNE_BUFSIZE
  value: "65536"
{{- end }}
- name: RAG_STORE_URI
  value: {{ .Values.serve.storeUri | quote }}
- name: RAG_CACHE_DIR
  value: /var/cache/isthmus
- name: HOME
  value: /tmp
{{- with .Values.serve.storageAccount }}
- name: AZURE_STORAGE_ACCOUNT_NAME
  value: {{ . | quote }}
{{- end }}
{{- with .Values.llm.apiKeySecret }}
{{ include "isthmus.secretEnv" (dict "name" "RAG_LLM_API_KEY" "secret" . "key" "api-key") }}
{{- end }}
{{- with .Values.serve.redisUrlSecret }}
{{ include "isthmus.secretEnv" (dict "name" "SERVE_REDIS_URL" "secret" . "key" "redis-url") }}
{{- end }}
{{- if .Values.serve.memoryUrlSecret }}
{{ include "isthmus.secretEnv" (dict "name" "RAG_MEMORY_URL" "secret" .Values.serve.memoryUrlSecret "key" "memory-url") }}
{{- else }}
- name: RAG_MEMORY_URL
  value: /var/lib/isthmus/threads.sqlite
{{- end }}
{{- with .Values.serve.oidc.issuer }}
- name: SERVE_OIDC_ISSUER
  value: {{ . | quote }}
- name: SERVE_OIDC_AUDIENCE
  value: {{ $.Values.serve.oidc.audience | quote }}
{{- end }}
{{- if .Values.serve.modelsTable }}
- name: RAG_MODELS_FILE
  value: /etc/isthmus/tables/models.toml
{{- end }}
{{- if .Values.serve.mcpTable }}
- name: RAG_MCP_FILE
  value: /etc/isthmus/tables/mcp.toml
{{- end }}
{{- if .Values.mtls.enabled }}
- name: RAG_LLM_TLS_CA
  value: /etc/isthmus/tls/ca.crt
- name: RAG_LLM_TLS_CERT
  value: /etc/isthmus/tls/tls.crt
- name: RAG_LLM_TLS_KEY
  value: /etc/isthmus/tls/tls.key
{{- end }}
{{- if .Values.serve.apiKeysSecret }}
- name: SERVE_API_KEYS_FILE
  value: /etc/isthmus/api-keys/api-keys.json
{{- end }}
{{- range $name, $value := .Values.serve.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- /* Pod template of a Ray group. Takes a dict of `root`, `role` (head or worker), `cpu`, `memory`. */ -}}
{{- define "isthmus.rayTemplate" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $tables := print $v.serve.modelsTable $v.serve.mcpTable -}}
metadata:
  labels:
    {{- include "isthmus.podLabels" (dict "root" $root "side" "ray") | nindent 4 }}
    isthmus.dev/role: {{ .role }}
    azure.workload.identity/use: {{ not (empty $v.serve.workloadIdentityClientId) | quote }}
  annotations:
    {{- include "isthmus.skips" (dict "root" $root "probes" "KubeRay adds probes to every Ray container." "head" (eq .role "head") "secrets" (or $v.llm.apiKeySecret $v.serve.redisUrlSecret $v.serve.memoryUrlSecret) "digest" $v.images.serve.digest) | nindent 4 }}
    {{- with $tables }}
    checksum/tables: {{ sha256sum . }}
    {{- end }}
spec:
  serviceAccountName: {{ include "isthmus.rayAccount" $root }}
  # Only the head's autoscaler speaks to the API server.
  automountServiceAccountToken: {{ eq .role "head" }}
  terminationGracePeriodSeconds: {{ add $v.serve.streamSeconds 60 }}
  securityContext:
    {{- include "isthmus.podSecurity" $root | nindent 4 }}
  {{- include "isthmus.pullSecrets" $root | nindent 2 }}
  {{- include "isthmus.cpuPlacement" $root | nindent 2 }}
  containers:
    - name: ray-{{ .role }}
      image: {{ include "isthmus.image" (dict "root" $root "image" $v.images.serve) }}
      imagePullPolicy: {{ $v.images.serve.pullPolicy }}
      securityContext:
        {{- include "isthmus.containerSecurity" $root | nindent 8 }}
      ports:
        {{- if eq .role "head" }}
        - {name: gcs, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        {{- end }}
        - {name: serve, containerPort: {{ $v.serve.port }}}
        - {name: metrics, containerPort: 8080}
      env:
        {{- include "isthmus.rayEnv" $root | nindent 8 }}
      {{- with $v.serve.existingSecrets }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      resources:
        requests: {cpu: {{ .cpu | quote }}, memory: {{ .memory }}}
        limits: {cpu: {{ .cpu | quote }}, memory: {{ .memory }}}
      lifecycle:
        preStop:
          exec:
            # Endpoints forget the pod at once; streams that run may finish before Ray stops.
            command: [/bin/sh, -c, "sleep {{ $v.serve.streamSeconds }}; ray stop"]
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: cache, mountPath: /var/cache/isthmus}
        - {name: store, mountPath: /var/lib/isthmus}
        - {name: shm, mountPath: /dev/shm}
        {{- if $v.mtls.enabled }}
        - {name: tls, mountPath: /etc/isthmus/tls, readOnly: true}
        {{- end }}
        {{- if $v.serve.apiKeysSecret }}
        - {name: api-keys, mountPath: /etc/isthmus/api-keys, readOnly: true}
        {{- end }}
        {{- if $tables }}
        - {name: tables, mountPath: /etc/isthmus/tables, readOnly: true}
        {{- end }}
        {{- if $v.secretStore.enabled }}
        - {name: secrets-store, mountPath: /mnt/secrets-store, readOnly: true}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: cache, emptyDir: {}}
    - {name: store, emptyDir: {}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: 2Gi}}
    {{- if $v.mtls.enabled }}
    - name: tls
      secret:
        secretName: {{ include "isthmus.fullname" $root }}-gateway-tls
    {{- end }}
    {{- with $v.serve.apiKeysSecret }}
    - name: api-keys
      secret:
        secretName: {{ . }}
        items:
          - {key: api-keys.json, path: api-keys.json}
    {{- end }}
    {{- if $tables }}
    - name: tables
      configMap:
        name: {{ include "isthmus.rayTables" $root }}
    {{- end }}
    {{- if $v.secretStore.enabled }}
    - name: secrets-store
      csi:
        driver: secrets-store.csi.k8s.io
        readOnly: true
        volumeAttributes:
          secretProviderClass: {{ include "isthmus.fullname" $root }}
    {{- end }}
{{- end -}}
