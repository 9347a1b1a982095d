mock_provider "azurerm" {}

variables {
  name                = "isthmus"
  location            = "westeurope"
  resource_group_name = "rg"
  admin_group_ids     = ["00000000-0000-0000-0000-000000000000"]
}

run "secure_by_default" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster.this.private_cluster_enabled && !azurerm_kubernetes_cluster.this.private_cluster_public_fqdn_enabled
    error_message = "The API server must be private by default."
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.local_account_disabled && !azurerm_kubernetes_cluster.this.run_command_enabled
    error_message = "Local accounts and run-command must be off."
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.oidc_issuer_enabled && azurerm_kubernetes_cluster.this.workload_identity_enabled
    error_message = "Workload identity needs the OIDC issuer."
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.network_profile[0].network_plugin_mode == "overlay" && azurerm_kubernetes_cluster.this.network_profile[0].network_data_plane == "cilium" && azurerm_kubernetes_cluster.this.network_profile[0].network_policy == "cilium"
    error_message = "The chart's NetworkPolicies need Azure CNI overlay with Cilium."
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.default_node_pool[0].only_critical_addons_enabled && !azurerm_kubernetes_cluster.this.default_node_pool[0].node_public_ip_enabled
    error_message = "The system pool must take critical pods only and have no public addresses."
  }
}

run "public_api_needs_addresses" {
  command = plan
  variables {
    private_api = false
  }
  expect_failures = [azurerm_kubernetes_cluster.this]
}

run "public_api_for_named_networks" {
  command = plan
  variables {
    private_api       = false
    api_allowed_cidrs = ["198.51.100.0/24"]
  }
  assert {
    condition     = one(azurerm_kubernetes_cluster.this.api_server_access_profile[0].authorized_ip_ranges) == "198.51.100.0/24"
    error_message = "A public API server must be limited to the named networks."
  }
}

run "public_api_for_everybody" {
  command = plan
  variables {
    private_api       = false
    api_allowed_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_allowed_cidrs]
}

run "a_name_that_is_too_long" {
  command = plan
  variables {
    name = "a-name-of-far-more-than-forty-characters-in-all"
  }
  expect_failures = [var.name]
}

run "nobody_administers" {
  command = plan
  variables {
    admin_group_ids = []
  }
  expect_failures = [var.admin_group_ids]
}

run "a_patch_version" {
  command = plan
  variables {
    kubernetes_version = "1.34.2"
  }
  expect_failures = [var.kubernetes_version]
}
