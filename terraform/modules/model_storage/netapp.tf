resource "azurerm_netapp_account" "this" {
  count = var.share.kind == "netapp" ? 1 : 0

  name                = "${var.name}-netapp"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_netapp_pool" "this" {
  count = var.share.kind == "netapp" ? 1 : 0

  name                = "models"
  account_name        = azurerm_netapp_account.this[0].name
  location            = var.location
  resource_group_name = var.resource_group_name
  service_level       = "Premium"
  size_in_tb          = max(1, ceil(var.share.size_gib / 1024))
  tags                = var.tags
}

resource "azurerm_netapp_volume" "models" {
  count = var.share.kind == "netapp" ? 1 : 0

  name                = "models"
  account_name        = azurerm_netapp_account.this[0].name
  pool_name           = azurerm_netapp_pool.this[0].name
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = var.subnet_ids.netapp
  service_level       = "Premium"
  protocols           = ["NFSv4.1"]
  volume_path         = "${var.name}-models"
  storage_quota_in_gb = var.share.size_gib
  unix_permissions    = "0777" # the fill Job writes as uid 10001; who reaches the volume is the network's to say
  tags                = var.tags

  export_policy_rule {
    rule_index          = 1
    allowed_clients     = ["0.0.0.0/0"] # the subnet is delegated and private
    protocol            = ["NFSv4.1"]
    unix_read_write     = true
    root_access_enabled = true
  }
}
