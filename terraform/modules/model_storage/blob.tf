resource "azurerm_storage_account" "blob" {
  # checkov:skip=CKV2_AZURE_1:Encrypted with platform keys; customer-managed keys need a vault that is the customer's choice.
  # checkov:skip=CKV_AZURE_33:The account has no queues.
  # checkov:skip=CKV_AZURE_206:Models can be downloaded again from where they came; zone redundancy keeps them available.
  # checkov:skip=CKV2_AZURE_21:Access is by managed identity only and shows in the activity log.
  # checkov:skip=CKV_AZURE_59:It is disabled, by the attribute public_network_access that checkov does not know yet.
  name                            = var.storage_account_name
  location                        = var.location
  resource_group_name             = var.resource_group_name
  account_tier                    = "Standard"
  account_replication_type        = "ZRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  default_to_oauth_authentication = true
  public_network_access           = "Disabled"
  tags                            = var.tags

  blob_properties {
    delete_retention_policy {
      days = 14
    }
    container_delete_retention_policy {
      days = 14
    }
  }
}

resource "azurerm_storage_container" "this" {
  # checkov:skip=CKV2_AZURE_21:Access is by managed identity only and shows in the activity log.
  for_each = toset(["models", "documents"])

  name                  = each.key
  storage_account_id    = azurerm_storage_account.blob.id
  container_access_type = "private"
}
