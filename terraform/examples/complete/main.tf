provider "azurerm" {
  features {}
  subscription_id = var.subscription_id
}

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
  tags     = var.tags
}

module "cluster" {
  source = "../../modules/cluster"

  name                = var.name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  private_api         = var.private_api
  api_allowed_cidrs   = var.api_allowed_cidrs
  admin_group_ids     = var.admin_group_ids
  tags                = var.tags
}

module "node_pools" {
  source = "../../modules/node_pools"

  cluster_id = module.cluster.id
  subnet_id  = module.cluster.subnet_ids.nodes
  cpu_pools  = var.cpu_pools
  gpu_pools  = var.gpu_pools
  tags       = var.tags
}

module "model_storage" {
  source = "../../modules/model_storage"

  name                 = var.name
  storage_account_name = var.storage_account_name
  location             = azurerm_resource_group.this.location
  resource_group_name  = azurerm_resource_group.this.name
  network_id           = module.cluster.network_id
  subnet_ids           = module.cluster.subnet_ids
  oidc_issuer_url      = module.cluster.oidc_issuer_url
  share                = var.share
  tags                 = var.tags
}

# The operators are a second step, with a kubeconfig: a provider must not be configured from a
# resource of the same plan.
provider "helm" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

module "platform" {
  source = "../../modules/platform"
  count  = var.kubeconfig == null ? 0 : 1

  versions_file = "${path.module}/../../../helm/platform/versions.yaml"
}
