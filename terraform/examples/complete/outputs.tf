output "cluster_name" {
  description = "For `az aks get-credentials`."
  value       = module.cluster.name
}

output "chart_values" {
  description = "Values for helm/isthmus: terraform output -raw chart_values > values-azure.yaml"
  value = yamlencode(merge(
    module.model_storage.chart_values,
    { nodePools = concat(
      [{ name = "system", role = "system", vmSize = "Standard_D4s_v5", taints = ["CriticalAddonsOnly=true:NoSchedule"], labels = {}, spot = false }],
      module.node_pools.chart_node_pools,
    ) },
    { isolation = { preferSpot = anytrue([for pool in var.gpu_pools : try(pool.spot, false)]) } },
  ))
}
