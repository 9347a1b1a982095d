resource "azurerm_kubernetes_cluster" "this" {
  # checkov:skip=CKV_AZURE_117:Disks are encrypted with platform keys; a disk encryption set needs a key vault that is the customer's choice.
  # checkov:skip=CKV_AZURE_227:Encryption at host has to be enabled for the subscription first.
  # checkov:skip=CKV_AZURE_226:Ephemeral OS disks do not fit every VM size that system_pool may name.
  # checkov:skip=CKV_AZURE_4:Metrics and logs go to the platform's kube-prometheus-stack; a Log Analytics workspace is the customer's choice.
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  dns_prefix          = var.name
  kubernetes_version  = var.kubernetes_version
  sku_tier            = "Standard"

  automatic_upgrade_channel = "patch"
  node_os_upgrade_channel   = "NodeImage"
  azure_policy_enabled      = true
  run_command_enabled       = false
  local_account_disabled    = true

  # Pods get Azure identities through their service accounts.
  oidc_issuer_enabled       = true
  workload_identity_enabled = true

  private_cluster_enabled             = var.private_api
  private_cluster_public_fqdn_enabled = false

  dynamic "api_server_access_profile" {
    for_each = var.private_api ? [] : [true]
    content {
      authorized_ip_ranges = var.api_allowed_cidrs
    }
  }

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    admin_group_object_ids = var.admin_group_ids
  }

  identity {
    type = "SystemAssigned"
  }

  default_node_pool {
    name                         = "system"
    vm_size                      = var.system_pool.vm_size
    vnet_subnet_id               = azurerm_subnet.nodes.id
    zones                        = var.system_pool.zones
    auto_scaling_enabled         = true
    min_count                    = var.system_pool.min_count
    max_count                    = var.system_pool.max_count
    max_pods                     = 110
    node_public_ip_enabled       = false
    only_critical_addons_enabled = true
    temporary_name_for_rotation  = "systemtmp"
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_data_plane  = "cilium"
    network_policy      = "cilium"
  }

  node_provisioning_profile {
    mode = "Manual"
  }

  auto_scaler_profile {
    # GPU nodes are dear: an idle one goes after ten minutes, whatever sits on its local disk.
    scale_down_unneeded           = "10m"
    skip_nodes_with_local_storage = false
    expander                      = "priority"
  }

  key_vault_secrets_provider {
    secret_rotation_enabled = true
  }

  storage_profile {
    blob_driver_enabled = true
    file_driver_enabled = true
  }

  # Publishes the gateway, and nothing else: the chart's only Ingress.
  web_app_routing {
    dns_zone_ids = []
  }

  tags = var.tags

  lifecycle {
    precondition {
      condition     = var.private_api || length(var.api_allowed_cidrs) > 0
      error_message = "A public API server needs api_allowed_cidrs; or set private_api = true."
    }
  }
}
