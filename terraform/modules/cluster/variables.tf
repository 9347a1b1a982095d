variable "name" {
  description = "Name of the cluster and prefix of what belongs to it."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 40 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "location" {
  description = "Azure region."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group that everything is made in."
  type        = string
}

variable "kubernetes_version" {
  description = "Kubernetes minor version, such as 1.34. Patches come by themselves."
  type        = string
  default     = "1.34"
  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version such as 1.34."
  }
}

variable "address_space" {
  description = "Address ranges of the virtual network, and of its subnets for nodes, private endpoints and NetApp volumes. Pods have an overlay of their own."
  type = object({
    network   = optional(string, "10.40.0.0/16")
    nodes     = optional(string, "10.40.0.0/20")
    endpoints = optional(string, "10.40.16.0/24")
    netapp    = optional(string, "10.40.17.0/24")
  })
  default = {}
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
  validation {
    condition     = !contains(var.api_allowed_cidrs, "0.0.0.0/0")
    error_message = "api_allowed_cidrs must not hold 0.0.0.0/0; name your own networks."
  }
}

variable "admin_group_ids" {
  description = "Entra ID groups that administer the cluster."
  type        = list(string)
  validation {
    condition     = length(var.admin_group_ids) > 0
    error_message = "admin_group_ids must name at least one group: local accounts are disabled."
  }
}

variable "system_pool" {
  description = "Nodes for Kubernetes' own pods and the operators."
  type = object({
    vm_size   = optional(string, "Standard_D4s_v5")
    min_count = optional(number, 2)
    max_count = optional(number, 5)
    zones     = optional(list(string), ["1", "2", "3"])
  })
  default = {}
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
