{{- /* What every pod shares: who it runs as, what it may do, where it may go. */ -}}
{{- define "isthmus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "isthmus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "isthmus.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Layer one of the isolation: Ray pods, jobs and tests require the CPU pool. */ -}}
{{- define "isthmus.cpuPlacement" -}}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: {{ .Values.isolation.poolLabel }}
              operator: In
              values: [{{ .Values.isolation.cpuPool }}]
{{- end -}}

{{- define "isthmus.gpuPlacement" -}}
{{- $spot := "kubernetes.azure.com/scalesetpriority" -}}
tolerations:
  - key: {{ .Values.isolation.taint.key }}
    operator: Equal
    value: {{ .Values.isolation.taint.value }}
    effect: {{ .Values.isolation.taint.effect }}
  {{- if .Values.isolation.preferSpot }}
  - key: {{ $spot }}
    operator: Equal
    value: spot
    effect: NoSchedule
  {{- end }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: {{ .Values.isolation.poolLabel }}
              operator: In
              values: [{{ .Values.isolation.gpuPool }}]
    {{- if .Values.isolation.preferSpot }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions:
            - key: {{ $spot }}
              operator: In
              values: [spot]
    {{- end }}
{{- end -}}
