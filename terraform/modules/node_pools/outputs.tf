output "chart_node_pools" {
  description = "The chart's value `nodePools`, for `isthmus cluster prove`."
  value = concat(
    [for name, pool in var.cpu_pools : {
      name   = name
      role   = "cpu"
      vmSize = pool.vm_size
      labels = merge(pool.labels, { "isthmus.dev/pool" = "cpu" })
      taints = []
      spot   = false
    }],
    [for name, pool in var.gpu_pools : {
      name   = name
      role   = "gpu"
      vmSize = pool.vm_size
      labels = merge(pool.labels, { "isthmus.dev/pool" = "gpu" })
      taints = [local.gpu_taint]
      spot   = pool.spot
    }],
  )
}
