resource "azurerm_kubernetes_cluster_node_pool" "cpu" {
  # checkov:skip=CKV_AZURE_227:Encryption at host has to be enabled for the subscription first.
  for_each = var.cpu_pools

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
  node_public_ip_enabled = false
  node_labels            = merge(each.value.labels, { "isthmus.dev/pool" = "cpu" })
  tags                   = var.tags

  lifecycle {
    ignore_changes = [node_count] # the autoscaler's
  }
}
