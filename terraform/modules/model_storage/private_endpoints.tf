locals {
  endpoints = merge(
    { blob = azurerm_storage_account.blob.id },
    var.share.kind == "files" ? { file = azurerm_storage_account.files[0].id } : {},
  )
}

resource "azurerm_private_dns_zone" "this" {
  for_each = local.endpoints

  name                = "privatelink.${each.key}.core.windows.net"
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each = local.endpoints

  name                = each.key
  private_dns_zone_id = azurerm_private_dns_zone.this[each.key].id
  virtual_network_id  = var.network_id
  tags                = var.tags
}

resource "azurerm_private_endpoint" "this" {
  for_each = local.endpoints

  name                = "${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = var.subnet_ids.endpoints
  tags                = var.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value
    subresource_names              = [each.key]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = each.key
    private_dns_zone_ids = [azurerm_private_dns_zone.this[each.key].id]
  }
}
