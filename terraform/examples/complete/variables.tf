variable "subscription_id" {
  description = "Azure subscription."
  type        = string
}

variable "name" {
  description = "Name of the resource group, the cluster, and prefix of the rest."
  type        = string
  default     = "isthmus"
}

variable "location" {
  description = "Azure region with quota for the GPU sizes."
  type        = string
  default     = "westeurope"
}

variable "storage_account_name" {
  description = "Name of the storage account, unique in Azure."
  type        = string
}

variable "admin_group_ids" {
  description = "Entra ID groups that administer the cluster."
  type        = list(string)
}

variable "private_api" {
  description = "Give the API server a private address only."
  type        = bool
  default     = true
}

variable "api_allowed_cidrs" {
  description = "Addresses that may reach a public API server."
  type        = list(string)
  default     = []
}

variable "cpu_pools" {
  description = "CPU pools; see modules/node_pools."
  type        = any
  default     = { cpu = { vm_size = "Standard_D8s_v5", min_count = 1, max_count = 10 } }
}

variable "gpu_pools" {
  description = "GPU pools; see modules/node_pools."
  type        = any
  default = {
    gpu     = { vm_size = "Standard_NC24ads_A100_v4", max_count = 4 }
    gpuspot = { vm_size = "Standard_NC24ads_A100_v4", max_count = 8, spot = true }
  }
}

variable "share" {
  description = "A share for models; see modules/model_storage."
  type        = any
  default     = {}
}

variable "kubeconfig" {
  description = "Kubeconfig of the cluster, from the second apply on: installs the operators."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = { project = "isthmus" }
}
