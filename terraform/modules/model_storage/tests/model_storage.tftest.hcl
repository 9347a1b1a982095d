mock_provider "azurerm" {}

variables {
  name                 = "isthmus"
  storage_account_name = "exampleisthmus"
  location             = "westeurope"
  resource_group_name  = "rg"
  network_id           = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/n"
  subnet_ids = {
    endpoints = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/n/subnets/endpoints"
    netapp    = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/n/subnets/netapp"
  }
  oidc_issuer_url = "https://oidc.example/"
}

run "blobs_are_private_and_keyless" {
  command = plan

  assert {
    condition     = azurerm_storage_account.blob.public_network_access == "Disabled" && !azurerm_storage_account.blob.allow_nested_items_to_be_public && !azurerm_storage_account.blob.shared_access_key_enabled
    error_message = "The account must be reachable privately, by identity, only."
  }
  assert {
    condition     = alltrue([for container in azurerm_storage_container.this : container.container_access_type == "private"])
    error_message = "Containers must be private."
  }
  assert {
    condition     = keys(azurerm_private_endpoint.this) == ["blob"]
    error_message = "Blobs need a private endpoint, and nothing else does without a share."
  }
}

run "each_side_gets_its_least_role" {
  command = plan

  assert {
    condition     = azurerm_role_assignment.this["llm"].role_definition_name == "Storage Blob Data Reader"
    error_message = "The LLM side reads models and no more."
  }
  assert {
    condition     = azurerm_federated_identity_credential.this["ray"].subject == "system:serviceaccount:isthmus:isthmus-ray" && azurerm_federated_identity_credential.this["llm"].subject == "system:serviceaccount:isthmus:isthmus-llm"
    error_message = "The identities must be bound to the chart's service accounts."
  }
}

run "files_over_nfs" {
  command = plan
  variables {
    share = { kind = "files", size_gib = 2048 }
  }
  assert {
    condition     = azurerm_storage_share.models[0].enabled_protocol == "NFS" && azurerm_storage_share.models[0].quota == 2048 && azurerm_storage_account.files[0].account_kind == "FileStorage" && azurerm_storage_account.files[0].account_tier == "Premium"
    error_message = "Azure Files must be premium and speak NFS."
  }
  assert {
    condition     = azurerm_storage_account.files[0].public_network_access == "Disabled" && contains(keys(azurerm_private_endpoint.this), "file")
    error_message = "NFS has no TLS of its own: the share must be private."
  }
  assert {
    condition     = output.chart_values.modelStorage.kind == "share" && output.chart_values.modelStorage.share.storageAccount == "exampleisthmusnfs"
    error_message = "The chart must be told of the share."
  }
}

run "netapp" {
  command = plan
  variables {
    share = { kind = "netapp", size_gib = 3000 }
  }
  assert {
    condition     = azurerm_netapp_pool.this[0].size_in_tb == 3 && azurerm_netapp_volume.models[0].storage_quota_in_gb == 3000 && length(azurerm_storage_account.files) == 0
    error_message = "A NetApp volume needs a pool that holds it."
  }
  assert {
    condition     = azurerm_netapp_volume.models[0].unix_permissions == "0777"
    error_message = "The fill Job, which is not root, must be able to write."
  }
}

run "an_unknown_share" {
  command = plan
  variables {
    share = { kind = "smb" }
  }
  expect_failures = [var.share]
}

run "a_share_that_azure_refuses" {
  command = plan
  variables {
    share = { kind = "files", size_gib = 10 }
  }
  expect_failures = [var.share]
}

run "an_account_name_that_azure_refuses" {
  command = plan
  variables {
    storage_account_name = "Isthmus-Models"
  }
  expect_failures = [var.storage_account_name]
}
