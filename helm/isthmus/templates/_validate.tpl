{{- /* Combinations that the schema cannot express. Each message names the value and the mend. */ -}}
{{- define "isthmus.validate" -}}
{{- include "isthmus.validateNames" . -}}
{{- include "isthmus.validateLlm" . -}}
{{- include "isthmus.validateStorage" . -}}
{{- include "isthmus.validateEdges" . -}}
{{- include "isthmus.validateSecrets" . -}}
{{- include "isthmus.validateSettings" . -}}
{{- end -}}

{{- /* A variable that is given twice is refused by the API server, in words that name no value. */ -}}
{{- define "isthmus.validateSettings" -}}
{{- range $at, $env := dict "serve.settings" (include "isthmus.rayEnv" .) "llm.settings" (include "isthmus.llmEnv" .) -}}
{{- $seen := list -}}
{{- range fromYamlArray $env -}}
{{- if has .name $seen -}}{{- fail (printf "%s sets %s, which the chart sets from a value of its own; use that value." $at .name) -}}{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateNames" -}}
{{- $name := include "isthmus.fullname" . -}}
{{- if gt (len $name) 40 -}}
{{- fail (printf "The object name %q has %d characters; Ray's and MPI's pod names leave room for 40. Set fullnameOverride to a shorter one." $name (len $name)) -}}
{{- end -}}
{{- $groups := list -}}
{{- range .Values.serve.workers -}}
{{- if has .name $groups -}}{{- fail (printf "serve.workers names the group %q twice; give each its own name." .name) -}}{{- end -}}
{{- $groups = append $groups .name -}}
{{- if gt .minReplicas .maxReplicas -}}
{{- fail (printf "serve.workers[%s].minReplicas %v is above its maxReplicas %v; lower one or raise the other." .name .minReplicas .maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- $pods := 0 -}}{{- range .Values.serve.workers -}}{{- $pods = add $pods .maxReplicas -}}{{- end -}}
{{- if and (gt (int $pods) 1) (not (contains "://" .Values.serve.storeUri)) -}}
{{- fail (printf "serve.storeUri %q is a directory inside one pod, but serve.workers may have %d pods; use az://container/path, or lower maxReplicas to 1." .Values.serve.storeUri (int $pods)) -}}
{{- end -}}
{{- range $name := list "gateway" "retriever" -}}
{{- $d := index $.Values.serve $name -}}
{{- if gt $d.minReplicas $d.maxReplicas -}}
{{- fail (printf "serve.%s.minReplicas %v is above its maxReplicas %v; lower one or raise the other." $name $d.minReplicas $d.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateLlm" -}}
{{- $llm := .Values.llm -}}
{{- if eq $llm.backend "external" -}}
{{- if eq (empty $llm.external.host) (empty $llm.external.ip) -}}
{{- fail "llm.backend is external: set exactly one of llm.external.host and llm.external.ip." -}}
{{- end -}}
{{- if and $llm.external.tls (or $llm.external.ip .Values.mtls.enabled) -}}
{{- fail "llm.external.tls goes with llm.external.host, and not with mtls.enabled: it checks a public certificate's name. Clear one of them." -}}
{{- end -}}
{{- else -}}
{{- if lt (int $llm.replicas) 1 -}}
{{- fail "llm.replicas is 0. To free the GPUs set llm.suspend: true or run `isthmus cluster suspend`; to use a service elsewhere set llm.backend: external." -}}
{{- end -}}
{{- include "isthmus.validateGpus" . -}}
{{- end -}}
{{- if and $llm.suspend (ne $llm.backend "deepspeed") -}}
{{- fail (printf "llm.suspend works with llm.backend deepspeed only, not %s; scale that Deployment to 0 instead." $llm.backend) -}}
{{- end -}}
{{- if and (eq $llm.backend "mii") (not $llm.image) -}}
{{- fail "llm.backend mii has no vendor image: set llm.image to one with deepspeed-mii installed." -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateGpus" -}}
{{- $llm := .Values.llm -}}
{{- $tp := int $llm.tensorParallel -}}
{{- range $name := list "attentionHeads" "keyValueHeads" -}}
{{- $heads := int (index $llm $name) -}}
{{- if mod $heads $tp -}}
{{- fail (printf "llm.tensorParallel %d does not divide the model's %d heads (llm.%s); choose a divisor of both llm.attentionHeads and llm.keyValueHeads." $tp $heads $name) -}}
{{- end -}}
{{- end -}}
{{- if mod $tp (int $llm.gpusPerPod) -}}
{{- fail (printf "llm.gpusPerPod %v does not divide llm.tensorParallel %d; every pod must hold the same number of ranks." $llm.gpusPerPod $tp) -}}
{{- end -}}
{{- if and (ne $llm.backend "deepspeed") (ne $tp (int $llm.gpusPerPod)) -}}
{{- fail (printf "llm.backend %s runs in one pod: set llm.gpusPerPod to llm.tensorParallel (%d)." $llm.backend $tp) -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateStorage" -}}
{{- $s := .Values.modelStorage -}}
{{- $blob := or $s.blob.account $s.blob.container $s.blob.prefix -}}
{{- $share := or $s.share.storageAccount $s.share.shareName $s.share.server $s.share.path $s.share.fill.enabled -}}
{{- if and $blob (ne $s.kind "blob") -}}
{{- fail (printf "modelStorage.blob is set but modelStorage.kind is %s; clear modelStorage.blob or set the kind to blob." $s.kind) -}}
{{- end -}}
{{- if and $share (ne $s.kind "share") -}}
{{- fail (printf "modelStorage.share is set but modelStorage.kind is %s; clear modelStorage.share or set the kind to share." $s.kind) -}}
{{- end -}}
{{- if and (eq $s.kind "bundled") (ne $s.cache.kind "none") -}}
{{- fail (printf "modelStorage.cache.kind is %s but a bundled model is part of the image; set it to none." $s.cache.kind) -}}
{{- end -}}
{{- if and (eq $s.kind "bundled") (not (hasPrefix "bundled:" .Values.llm.model)) (ne .Values.llm.backend "external") -}}
{{- fail (printf "llm.model %q is not bundled in the image: set modelStorage.kind to blob or share." .Values.llm.model) -}}
{{- end -}}
{{- if and (ne $s.kind "bundled") (hasPrefix "bundled:" .Values.llm.model) -}}
{{- fail (printf "llm.model %q is bundled in the image but modelStorage.kind is %s; name the model's folder, or set the kind to bundled." .Values.llm.model $s.kind) -}}
{{- end -}}
{{- if eq $s.kind "blob" -}}{{- include "isthmus.validateBlob" (dict "at" "modelStorage.blob" "blob" $s.blob) -}}{{- end -}}
{{- if eq $s.kind "share" -}}{{- include "isthmus.validateShare" $s.share -}}{{- end -}}
{{- end -}}

{{- define "isthmus.validateBlob" -}}
{{- range $field := list "account" "container" "prefix" -}}
{{- if not (index $.blob $field) -}}{{- fail (printf "%s.%s is empty; name where the model's files lie." $.at $field) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateShare" -}}
{{- if and (eq .type "netapp") (or (not .server) (not .path)) -}}
{{- fail "modelStorage.share.type netapp needs share.server and share.path; terraform output shows them." -}}
{{- end -}}
{{- if and (eq .type "netapp") (or .storageAccount .shareName .resourceGroup) -}}
{{- fail "modelStorage.share.type is netapp but fields of azureFiles are set (storageAccount, shareName, resourceGroup); clear them." -}}
{{- end -}}
{{- if and (eq .type "azureFiles") (or .server .path) -}}
{{- fail "modelStorage.share.type is azureFiles but fields of netapp are set (server, path); clear them." -}}
{{- end -}}
{{- $given := compact (list .storageAccount .shareName .resourceGroup) -}}
{{- if and $given (lt (len $given) 3) -}}
{{- fail "An existing Azure Files share needs all of modelStorage.share.storageAccount, shareName and resourceGroup; set them, or none to have one provisioned." -}}
{{- end -}}
{{- if .fill.enabled -}}{{- include "isthmus.validateBlob" (dict "at" "modelStorage.share.fill" "blob" .fill) -}}{{- end -}}
{{- end -}}

{{- define "isthmus.validateEdges" -}}
{{- $i := .Values.ingress -}}
{{- if and (ne $i.kind "none") (not $i.host) -}}{{- fail (printf "ingress.kind is %s but ingress.host is empty; set the service's DNS name." $i.kind) -}}{{- end -}}
{{- $o := .Values.serve.oidc -}}
{{- if ne (empty $o.issuer) (empty $o.audience) -}}{{- fail "serve.oidc needs both issuer and audience: tokens made for another service must not open this one." -}}{{- end -}}
{{- if and (ne $i.kind "none") (not .Values.serve.apiKeysSecret) (not $o.issuer) -}}{{- fail (printf "ingress.kind is %s but serve.apiKeysSecret is empty and serve.oidc.issuer too, so that everybody could ask and upload; name the Secret with the API keys, or the identity provider." $i.kind) -}}{{- end -}}
{{- if and (eq $i.kind "ingress") (not $i.tlsSecret) -}}{{- fail "ingress.tlsSecret is empty: the gateway is published over TLS only. Name the Secret that holds the certificate." -}}{{- end -}}
{{- if and (eq $i.kind "gateway") (not $i.gatewayName) -}}{{- fail "ingress.gatewayName is empty; name the Gateway whose HTTPS listener takes the route." -}}{{- end -}}
{{- $u := .Values.serve.upgrade -}}
{{- if and (eq $u.type "NewClusterWithIncrementalUpgrade") (not $u.gatewayClassName) -}}
{{- fail "serve.upgrade.gatewayClassName is empty; the incremental upgrade moves traffic through a Gateway, name its class." -}}
{{- end -}}
{{- if and .Values.mtls.enabled (has .Values.llm.backend (list "tgi" "mii")) -}}
{{- fail (printf "mtls.enabled: the server of llm.backend %s cannot ask for client certificates; use deepspeed or vllm, or set mtls.enabled: false." .Values.llm.backend) -}}
{{- end -}}
{{- end -}}

{{- define "isthmus.validateSecrets" -}}
{{- $f := .Values.serve.faultTolerance -}}
{{- if and $f.enabled (not $f.redisAddress) -}}{{- fail "serve.faultTolerance.redisAddress is empty; give Redis' host:port, or set serve.faultTolerance.enabled: false." -}}{{- end -}}
{{- if and $f.enabled (not $f.passwordSecret) -}}{{- fail "serve.faultTolerance.passwordSecret is empty; name the Secret with Redis' password (kubectl create secret generic …)." -}}{{- end -}}
{{- if and (hasPrefix "az://" .Values.serve.storeUri) (not .Values.serve.storageAccount) -}}{{- fail "serve.storeUri is az:// but serve.storageAccount is empty; name the storage account." -}}{{- end -}}
{{- $v := .Values.secretStore -}}
{{- if and $v.enabled (or (not $v.keyVault) (not $v.tenantId) (not $v.secrets)) -}}{{- fail "secretStore.enabled needs secretStore.keyVault, tenantId and at least one entry in secrets." -}}{{- end -}}
{{- $synced := list -}}{{- if $v.enabled -}}{{- range $v.secrets -}}{{- $synced = append $synced .secret -}}{{- end -}}{{- end -}}
{{- /* An offline render sees no cluster; a real install does, and then a missing Secret is an error. */ -}}
{{- if lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- $named := dict "serve.faultTolerance.passwordSecret" (ternary $f.passwordSecret "" $f.enabled) "llm.apiKeySecret" .Values.llm.apiKeySecret "serve.apiKeysSecret" .Values.serve.apiKeysSecret "serve.redisUrlSecret" .Values.serve.redisUrlSecret "serve.memoryUrlSecret" .Values.serve.memoryUrlSecret "serve.tokenAuth.secretName" .Values.serve.tokenAuth.secretName -}}
{{- range $i, $secret := .Values.serve.existingSecrets -}}{{- $_ := set $named (printf "serve.existingSecrets[%d]" $i) $secret -}}{{- end -}}
{{- range $i, $secret := .Values.images.pullSecrets -}}{{- $_ := set $named (printf "images.pullSecrets[%d]" $i) $secret -}}{{- end -}}
{{- range $field, $secret := $named -}}
{{- if and $secret (not (has $secret $synced)) (not (lookup "v1" "Secret" $.Release.Namespace $secret)) -}}
{{- fail (printf "The Secret %q named by %s is not in namespace %s; create it first." $secret $field $.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
