{{- define "isthmus.allowDns" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{- /* Takes a dict of `cidrs` and `port`. */ -}}
{{- define "isthmus.allowCidrs" -}}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ .port }}}
{{- end -}}

{{- define "isthmus.policyMeta" -}}
labels:
  {{- include "isthmus.labels" . | nindent 2 }}
{{- end -}}
