output "chart_values" {
  description = "The part of the chart's values that storage decides."
  value = {
    serve = {
      storeUri                 = "az://documents/store"
      storageAccount           = azurerm_storage_account.blob.name
      workloadIdentityClientId = azurerm_user_assigned_identity.this["ray"].client_id
    }
    modelStorage = merge(
      {
        kind                     = var.share.kind == "none" ? "blob" : "share"
        workloadIdentityClientId = azurerm_user_assigned_identity.this["llm"].client_id
      },
      var.share.kind == "none" ? { blob = { account = azurerm_storage_account.blob.name, container = "models" } } : {},
      var.share.kind == "files" ? { share = {
        type           = "azureFiles"
        size           = "${var.share.size_gib}Gi"
        storageAccount = one(azurerm_storage_account.files[*].name)
        shareName      = one(azurerm_storage_share.models[*].name)
        resourceGroup  = var.resource_group_name
      } } : {},
      var.share.kind == "netapp" ? { share = {
        type   = "netapp"
        size   = "${var.share.size_gib}Gi"
        server = one(azurerm_netapp_volume.models[*].mount_target)[0].ip_address
        path   = "/${one(azurerm_netapp_volume.models[*].volume_path)}"
      } } : {},
    )
  }
}
