variable "name" {
  description = "Prefix of resource names."
  type        = string
}

variable "storage_account_name" {
  description = "Name of the storage account for models and documents, unique in Azure. The one for the NFS share appends `nfs`."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]{3,21}$", var.storage_account_name))
    error_message = "storage_account_name must be 3 to 21 lower-case letters and digits."
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

variable "network_id" {
  description = "Virtual network whose pods reach the storage."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets for private endpoints and for NetApp volumes."
  type = object({
    endpoints = string
    netapp    = string
  })
}

variable "share" {
  description = "A share for models beside the blobs: none, files (Azure Files, NFS) or netapp, and its size in GiB."
  type = object({
    kind     = optional(string, "none")
    size_gib = optional(number, 1024)
  })
  default = {}
  validation {
    condition     = contains(["none", "files", "netapp"], var.share.kind)
    error_message = "share.kind is none, files or netapp."
  }
  validation {
    condition     = var.share.size_gib >= 100 && (var.share.kind != "netapp" || var.share.size_gib <= 102400)
    error_message = "share.size_gib is at least 100, and at most 102400 for netapp."
  }
}

variable "oidc_issuer_url" {
  description = "Issuer of the cluster's service account tokens."
  type        = string
}

variable "release" {
  description = "Namespace and object name prefix of the Helm release, whose service accounts get the identities."
  type = object({
    namespace = optional(string, "isthmus")
    fullname  = optional(string, "isthmus")
  })
  default = {}
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
