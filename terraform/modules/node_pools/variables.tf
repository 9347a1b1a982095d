variable "cluster_id" {
  description = "Id of the AKS cluster."
  type        = string
}

variable "subnet_id" {
  description = "Subnet of the nodes."
  type        = string
}

variable "cpu_pools" {
  description = "CPU pools by name: VM size, node counts between which they scale, zones."
  type = map(object({
    vm_size   = string
    min_count = optional(number, 0)
    max_count = number
    zones     = optional(list(string), ["1", "2", "3"])
    labels    = optional(map(string), {})
  }))
  validation {
    condition     = length(var.cpu_pools) > 0
    error_message = "cpu_pools must hold at least one pool: Ray runs nowhere else."
  }
  validation {
    condition     = alltrue([for name in keys(var.cpu_pools) : can(regex("^[a-z][a-z0-9]{0,11}$", name))])
    error_message = "A pool's name has 1 to 12 lower-case letters and digits and starts with a letter."
  }
  validation {
    condition     = alltrue([for pool in var.cpu_pools : !can(regex("^Standard_N", pool.vm_size))])
    error_message = "A CPU pool must not use a GPU size (Standard_N…); put it into gpu_pools."
  }
  validation {
    condition     = alltrue([for pool in var.cpu_pools : pool.min_count >= 0 && pool.min_count <= pool.max_count && pool.max_count >= 1])
    error_message = "Counts must fulfil 0 <= min_count <= max_count and max_count >= 1."
  }
}

variable "gpu_pools" {
  description = "GPU pools by name: VM size of the NC or ND series, node counts, zones; spot with the highest price in USD an hour (-1: up to the on-demand price) and what happens to an evicted node."
  type = map(object({
    vm_size         = string
    min_count       = optional(number, 0)
    max_count       = number
    zones           = optional(list(string), [])
    labels          = optional(map(string), {})
    os_disk_gb      = optional(number, 256)
    spot            = optional(bool, false)
    max_price       = optional(number, -1)
    eviction_policy = optional(string, "Delete")
  }))
  default = {}
  validation {
    condition     = alltrue([for name in keys(var.gpu_pools) : can(regex("^[a-z][a-z0-9]{0,11}$", name))])
    error_message = "A pool's name has 1 to 12 lower-case letters and digits and starts with a letter."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : can(regex("^Standard_N[CD]", pool.vm_size))])
    error_message = "A GPU pool needs a size of the NC or ND series, such as Standard_NC24ads_A100_v4."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.min_count >= 0 && pool.min_count <= pool.max_count && pool.max_count >= 1])
    error_message = "Counts must fulfil 0 <= min_count <= max_count and max_count >= 1."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : contains(["Delete", "Deallocate"], pool.eviction_policy)])
    error_message = "eviction_policy is Delete or Deallocate."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.max_price == -1 || pool.max_price > 0])
    error_message = "max_price is -1 (up to the on-demand price) or positive, in USD an hour."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.spot || pool.max_price == -1])
    error_message = "max_price needs spot = true."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : !contains(keys(pool.labels), "isthmus.dev/pool")])
    error_message = "The label isthmus.dev/pool is the module's own: Ray and LLM pods are placed by it."
  }
}

variable "tags" {
  description = "Tags of every pool."
  type        = map(string)
  default     = {}
}
