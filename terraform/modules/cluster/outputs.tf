output "id" {
  description = "Id of the cluster, for node pools."
  value       = azurerm_kubernetes_cluster.this.id
}

output "name" {
  description = "Name of the cluster, for `az aks get-credentials`."
  value       = azurerm_kubernetes_cluster.this.name
}

output "oidc_issuer_url" {
  description = "Issuer of service account tokens, for federated identities."
  value       = azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "network_id" {
  description = "Id of the virtual network."
  value       = azurerm_virtual_network.this.id
}

output "subnet_ids" {
  description = "Ids of the subnets by purpose: nodes, endpoints, netapp."
  value = {
    nodes     = azurerm_subnet.nodes.id
    endpoints = azurerm_subnet.endpoints.id
    netapp    = azurerm_subnet.netapp.id
  }
}
