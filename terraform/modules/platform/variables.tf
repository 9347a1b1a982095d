variable "versions_file" {
  description = "Path of helm/platform/versions.yaml; the values lie beside it."
  type        = string
}

variable "skip" {
  description = "Releases that somebody else installs, by name."
  type        = set(string)
  default     = []
  validation {
    condition     = length(setsubtract(var.skip, ["cert-manager", "kube-prometheus-stack", "kuberay-operator", "gpu-operator"])) == 0
    error_message = "skip may name cert-manager, kube-prometheus-stack, kuberay-operator and gpu-operator."
  }
}
