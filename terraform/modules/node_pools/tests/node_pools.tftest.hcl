mock_provider "azurerm" {}

variables {
  cluster_id = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c"
  subnet_id  = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/n/subnets/nodes"
  cpu_pools  = { cpu = { vm_size = "Standard_D8s_v5", max_count = 10 } }
  gpu_pools = {
    gpu     = { vm_size = "Standard_NC24ads_A100_v4", max_count = 4 }
    big     = { vm_size = "Standard_ND96isr_H100_v5", max_count = 1, labels = { team = "a" }, zones = ["2"] }
    gpuspot = { vm_size = "Standard_NC24ads_A100_v4", max_count = 8, spot = true, max_price = 2.5 }
  }
}

run "every_gpu_pool_is_tainted_and_labelled" {
  command = plan

  assert {
    condition     = alltrue([for pool in azurerm_kubernetes_cluster_node_pool.gpu : contains(pool.node_taints, "sku=gpu:NoSchedule")])
    error_message = "Every GPU pool must carry sku=gpu:NoSchedule."
  }
  assert {
    condition     = alltrue([for pool in azurerm_kubernetes_cluster_node_pool.gpu : pool.node_labels["isthmus.dev/pool"] == "gpu"])
    error_message = "Every GPU pool must carry isthmus.dev/pool=gpu."
  }
  assert {
    condition     = azurerm_kubernetes_cluster_node_pool.gpu["big"].node_labels["team"] == "a"
    error_message = "A pool keeps its own labels."
  }
  assert {
    condition     = alltrue([for pool in azurerm_kubernetes_cluster_node_pool.gpu : pool.gpu_driver == "None"])
    error_message = "The GPU Operator brings the driver."
  }
}

run "cpu_pools_are_not" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster_node_pool.cpu["cpu"].node_labels["isthmus.dev/pool"] == "cpu" && azurerm_kubernetes_cluster_node_pool.cpu["cpu"].node_taints == null
    error_message = "CPU pools carry the label cpu and no taint."
  }
}

run "pools_stay_in_their_zones" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster_node_pool.gpu["big"].zones == toset(["2"]) && azurerm_kubernetes_cluster_node_pool.cpu["cpu"].zones == toset(["1", "2", "3"])
    error_message = "A pool is in the zones it names, a CPU pool in all three by default."
  }
}

run "everything_scales_to_zero_and_has_no_public_address" {
  command = plan

  assert {
    condition     = alltrue([for pool in merge(azurerm_kubernetes_cluster_node_pool.gpu, azurerm_kubernetes_cluster_node_pool.cpu) : pool.auto_scaling_enabled && pool.min_count == 0])
    error_message = "Pools scale by themselves and down to zero by default."
  }
  assert {
    condition     = alltrue([for pool in merge(azurerm_kubernetes_cluster_node_pool.gpu, azurerm_kubernetes_cluster_node_pool.cpu) : !pool.node_public_ip_enabled])
    error_message = "No node has a public address."
  }
}

run "spot_rules" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster_node_pool.gpu["gpuspot"].priority == "Spot" && azurerm_kubernetes_cluster_node_pool.gpu["gpuspot"].spot_max_price == 2.5 && azurerm_kubernetes_cluster_node_pool.gpu["gpuspot"].eviction_policy == "Delete"
    error_message = "A spot pool has a price and an eviction policy."
  }
  assert {
    condition     = contains(azurerm_kubernetes_cluster_node_pool.gpu["gpuspot"].node_taints, "kubernetes.azure.com/scalesetpriority=spot:NoSchedule")
    error_message = "A spot pool says the taint that AKS adds."
  }
  assert {
    condition     = azurerm_kubernetes_cluster_node_pool.gpu["gpu"].priority == "Regular" && azurerm_kubernetes_cluster_node_pool.gpu["gpu"].spot_max_price == null
    error_message = "Only spot pools are spot."
  }
}

run "no_gpu_size_among_the_cpu_pools" {
  command = plan
  variables {
    cpu_pools = { cpu = { vm_size = "Standard_NC24ads_A100_v4", max_count = 1 } }
  }
  expect_failures = [var.cpu_pools]
}

run "no_cpu_size_among_the_gpu_pools" {
  command = plan
  variables {
    gpu_pools = { gpu = { vm_size = "Standard_D8s_v5", max_count = 1 } }
  }
  expect_failures = [var.gpu_pools]
}

run "no_label_that_would_move_ray" {
  command = plan
  variables {
    gpu_pools = { gpu = { vm_size = "Standard_NC24ads_A100_v4", max_count = 1, labels = { "isthmus.dev/pool" = "cpu" } } }
  }
  expect_failures = [var.gpu_pools]
}

run "no_price_without_spot" {
  command = plan
  variables {
    gpu_pools = { gpu = { vm_size = "Standard_NC24ads_A100_v4", max_count = 1, max_price = 1 } }
  }
  expect_failures = [var.gpu_pools]
}

run "no_unknown_eviction_policy" {
  command = plan
  variables {
    gpu_pools = { gpu = { vm_size = "Standard_NC24ads_A100_v4", max_count = 1, spot = true, eviction_policy = "Keep" } }
  }
  expect_failures = [var.gpu_pools]
}

run "no_crossed_counts" {
  command = plan
  variables {
    cpu_pools = { cpu = { vm_size = "Standard_D8s_v5", min_count = 3, max_count = 2 } }
  }
  expect_failures = [var.cpu_pools]
}

run "no_name_that_azure_refuses" {
  command = plan
  variables {
    gpu_pools = { "GPU_pool" = { vm_size = "Standard_NC24ads_A100_v4", max_count = 1 } }
  }
  expect_failures = [var.gpu_pools]
}
