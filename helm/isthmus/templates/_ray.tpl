{{- /* Serve's own configuration, the body of serveConfigV2. */ -}}
{{- define "isthmus.serveConfig" -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: {{ .Values.serve.port }}
applications:
  - name: isthmus
    route_prefix: /
    import_path: serve_app.app:app
    deployments:
      {{- range $name := list "Gateway" "Retriever" }}
      {{- $d := index $.Values.serve (lower $name) }}
      - name: {{ $name }}
        max_ongoing_requests: {{ $d.maxOngoingRequests }}
        graceful_shutdown_timeout_s: {{ $.Values.serve.streamSeconds }}
        autoscaling_config:
          min_replicas: {{ $d.minReplicas }}
          max_replicas: {{ $d.maxReplicas }}
          target_ongoing_requests: {{ $d.targetOngoingRequests }}
        ray_actor_options:
          num_cpus: {{ $d.cpus }}
          num_gpus: 0
      {{- end }}
      - name: Ingestor
        num_replicas: 1
        ray_actor_options:
          num_cpus: {{ .Values.serve.ingestor.cpus }}
          num_gpus: 0
{{- end -}}

{{- define "isthmus.llmUrl" -}}
{{ ternary "https" "http" .Values.mtls.enabled }}://{{ include "isthmus.llmName" . }}.{{ .Release.Namespace }}.svc:{{ .Values.llm.port }}/v1
{{- end -}}

{{- define "isthmus.rayEnv" -}}
- name: RAG_LLM_URL
  value: {{ include "isthmus.llmUrl" . | quote }}
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
- name: RAG_LLM_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: api-key
{{- end }}
{{- if .Values.mtls.enabled }}
- name: RAG_LLM_TLS_CA
  value: /etc/isthmus/tls/ca.crt
- name: RAG_LLM_TLS_CERT
  value: /etc/isthmus/tls/tls.crt
- name: RAG_LLM_TLS_KEY
  value: /etc/isthmus/tls/tls.key
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
metadata:
  labels:
    {{- include "isthmus.podLabels" (dict "root" $root "side" "ray") | nindent 4 }}
    isthmus.dev/role: {{ .role }}
    azure.workload.identity/use: {{ not (empty $v.serve.workloadIdentityClientId) | quote }}
  annotations:
    {{- include "isthmus.skips" (dict "root" $root "probes" "KubeRay adds probes to every Ray container." "head" (eq .role "head") "secrets" $v.llm.apiKeySecret "digest" $v.images.serve.digest) | nindent 4 }}
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
    {{- if $v.secretStore.enabled }}
    - name: secrets-store
      csi:
        driver: secrets-store.csi.k8s.io
        readOnly: true
        volumeAttributes:
          secretProviderClass: {{ include "isthmus.fullname" $root }}
    {{- end }}
{{- end -}}
