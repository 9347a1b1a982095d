locals {
  # The Ray side reads and writes documents; the LLM side reads models and nothing else.
  identities = {
    ray = { account = "${var.release.fullname}-ray", container = "documents", role = "Storage Blob Data Contributor" }
    llm = { account = "${var.release.fullname}-llm", container = "models", role = "Storage Blob Data Reader" }
  }
}

resource "azurerm_user_assigned_identity" "this" {
  for_each = local.identities

  name                = "${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "this" {
  for_each = local.identities

  name                      = each.key
  user_assigned_identity_id = azurerm_user_assigned_identity.this[each.key].id
  issuer                    = var.oidc_issuer_url
  audience                  = ["api://AzureADTokenExchange"]
  subject                   = "system:serviceaccount:${var.release.namespace}:${each.value.account}"
}

resource "azurerm_role_assignment" "this" {
  for_each = local.identities

  scope                = azurerm_storage_container.this[each.value.container].id
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type       = "ServicePrincipal"
}
