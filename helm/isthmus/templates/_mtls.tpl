{{- /* Takes a dict of `root`, `name` (object and service name), `usage` and `extra` DNS names. */ -}}
{{- define "isthmus.certificate" -}}
{{- $m := .root.Values.mtls -}}
{{- $ns := .root.Release.Namespace -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .name }}
  labels:
    {{- include "isthmus.labels" .root | nindent 4 }}
spec:
  secretName: {{ .name }}-tls
  duration: {{ $m.duration }}
  renewBefore: {{ $m.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, {{ join ", " .usages }}]
  dnsNames:
    {{- range concat (list .name (printf "%s.%s.svc" .name $ns)) .extra }}
    - {{ . }}
    {{- end }}
  issuerRef:
    kind: {{ ternary $m.issuerKind "Issuer" (not (empty $m.issuerName)) }}
    name: {{ $m.issuerName | default (printf "%s-ca" (include "isthmus.fullname" .root)) }}
{{- end -}}
