{{- /* A `helm test` pod. Takes a dict of `root`, `name` and `script` (Python). */ -}}
{{- define "isthmus.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "isthmus.fullname" .root }}-test-{{ .name }}
  labels:
    {{- include "isthmus.podLabels" (dict "root" .root "side" "test") | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    {{- include "isthmus.skips" (dict "root" .root "probes" "A test that ends has nobody to tell that it is ready." "digest" .root.Values.images.serve.digest) | nindent 4 }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext:
    {{- include "isthmus.podSecurity" .root | nindent 4 }}
  {{- include "isthmus.pullSecrets" .root | nindent 2 }}
  {{- include "isthmus.cpuPlacement" .root | nindent 2 }}
  containers:
    - name: test
      image: {{ include "isthmus.image" (dict "root" .root "image" .root.Values.images.serve) }}
      imagePullPolicy: {{ .root.Values.images.serve.pullPolicy }}
      command: [python3, -c]
      args:
        - |
          {{- .script | nindent 10 }}
      securityContext:
        {{- include "isthmus.containerSecurity" .root | nindent 8 }}
      resources:
        requests: {cpu: 100m, memory: 128Mi}
        limits: {cpu: 500m, memory: 256Mi}
{{- end -}}
