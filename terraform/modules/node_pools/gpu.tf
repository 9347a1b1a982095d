locals {
  gpu_taint = "sku=gpu:NoSchedule"
}

resource "azurerm_kubernetes_cluster_node_pool" "gpu" {
  # checkov:skip=CKV_AZURE_227:Encryption at host has to be enabled for the subscription first.
  for_each = var.gpu_pools

  name                   = each.key
  kubernetes_cluster_id  = var.cluster_id
  vnet_subnet_id         = var.subnet_id
  vm_size                = each.value.vm_size
  zones                  = each.value.zones
  mode                   = "User"
  auto_scaling_enabled   = true
  min_count              = each.value.min_count
  max_count              = each.value.max_count
  max_pods               = 110
  os_disk_size_gb        = each.value.os_disk_gb
  node_public_ip_enabled = false
  gpu_driver             = "None" # the GPU Operator installs it
  node_labels            = merge(each.value.labels, { "isthmus.dev/pool" = "gpu" })

  # Always, whatever the caller wants: one of the two layers that keep Ray off these nodes. On spot
  # nodes AKS adds its own taint, which would make every plan differ if it were not said here.
  node_taints = concat(
    [local.gpu_taint],
    each.value.spot ? ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"] : [],
  )

  priority        = each.value.spot ? "Spot" : "Regular"
  eviction_policy = each.value.spot ? each.value.eviction_policy : null
  spot_max_price  = each.value.spot ? each.value.max_price : null
  tags            = var.tags

  lifecycle {
    ignore_changes = [node_count] # the autoscaler's
  }
}
