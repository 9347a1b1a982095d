resource "azurerm_storage_account" "files" {
  # checkov:skip=CKV2_AZURE_1:Encrypted with platform keys; customer-managed keys need a vault that is the customer's choice.
  # checkov:skip=CKV_AZURE_33:The account has no queues.
  # checkov:skip=CKV_AZURE_206:A cache of what lies in Blob Storage; it is filled again by the chart's Job.
  # checkov:skip=CKV_AZURE_3:NFS has no TLS of its own; the share is reached through a private endpoint only.
  # checkov:skip=CKV2_AZURE_47:There are no blobs in a FileStorage account.
  # checkov:skip=CKV2_AZURE_38:There are no blobs in a FileStorage account.
  # checkov:skip=CKV_AZURE_59:It is disabled, by the attribute public_network_access that checkov does not know yet.
  # checkov:skip=CKV2_AZURE_33:Its endpoint is azurerm_private_endpoint.this["file"], which checkov cannot follow through for_each.
  count = var.share.kind == "files" ? 1 : 0

  name                            = "${var.storage_account_name}nfs"
  location                        = var.location
  resource_group_name             = var.resource_group_name
  account_tier                    = "Premium"
  account_kind                    = "FileStorage"
  account_replication_type        = "ZRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = false # NFS
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  public_network_access           = "Disabled"
  tags                            = var.tags
}

resource "azurerm_storage_share" "models" {
  count = var.share.kind == "files" ? 1 : 0

  name               = "models"
  storage_account_id = azurerm_storage_account.files[0].id
  enabled_protocol   = "NFS"
  quota              = var.share.size_gib
}
