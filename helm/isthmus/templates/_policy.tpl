{{- /* Checks of checkov that do not apply, each with its reason, as annotations of the pod. Takes a
dict of `root`, `probes` (who adds probes, or "" if the pod has its own), `head` and `secrets`. */ -}}
{{- define "isthmus.skips" -}}
{{- $v := .root.Values -}}
{{- $skips := list "CKV_K8S_15=A pod must be able to restart while the registry is away; tags are never moved and digests are pinned in production." -}}
{{- if not .digest -}}
{{- $skips = append $skips "CKV_K8S_43=The digest is the operator's to pin: images.*.digest, or llm.image with @sha256." -}}
{{- end -}}
{{- with .probes -}}
{{- $skips = append $skips (printf "CKV_K8S_8=%s" .) -}}
{{- $skips = append $skips (printf "CKV_K8S_9=%s" .) -}}
{{- end -}}
{{- if .head -}}
{{- $skips = append $skips "CKV_K8S_38=Ray's autoscaler runs in the head and asks the API server for pods." -}}
{{- end -}}
{{- if .secrets -}}
{{- $skips = append $skips "CKV_K8S_35=Settings are environment variables throughout, and the processes start no other user's code." -}}
{{- end -}}
{{- if and .llm $v.llm.hostNetwork -}}
{{- $skips = append $skips "CKV_K8S_19=llm.hostNetwork asks for it." -}}
{{- end -}}
{{- if and .llm $v.llm.rdma.enabled -}}
{{- $skips = append $skips "CKV_K8S_25=llm.rdma asks for IPC_LOCK: RDMA pins memory." -}}
{{- end -}}
{{- range $i, $skip := $skips }}
checkov.io/skip{{ add1 $i }}: {{ $skip | quote }}
{{- end }}
{{- end -}}
