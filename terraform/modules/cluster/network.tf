resource "azurerm_virtual_network" "this" {
  name                = "${var.name}-net"
  location            = var.location
  resource_group_name = var.resource_group_name
  address_space       = [var.address_space.network]
  tags                = var.tags
}

resource "azurerm_subnet" "nodes" {
  # checkov:skip=CKV2_AZURE_31:AKS puts its own security group on the nodes' interfaces.
  name                 = "nodes"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [var.address_space.nodes]
}

resource "azurerm_subnet" "endpoints" {
  # checkov:skip=CKV2_AZURE_31:Private endpoints only; who reaches them is decided by the network and by identities.
  name                 = "endpoints"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [var.address_space.endpoints]
}

resource "azurerm_subnet" "netapp" {
  name                 = "netapp"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [var.address_space.netapp]

  delegation {
    name = "netapp"
    service_delegation {
      name    = "Microsoft.Netapp/volumes"
      actions = ["Microsoft.Network/networkinterfaces/*", "Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}
