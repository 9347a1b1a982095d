mock_provider "azurerm" {}
mock_provider "helm" {}

variables {
  subscription_id      = "00000000-0000-0000-0000-000000000000"
  storage_account_name = "exampleisthmus"
  admin_group_ids      = ["00000000-0000-0000-0000-000000000000"]
}

run "applies_and_feeds_the_chart" {
  command = apply

  assert {
    condition     = [for pool in yamldecode(output.chart_values).nodePools : pool.name] == ["system", "cpu", "gpu", "gpuspot"]
    error_message = "The chart's values must list every pool."
  }
  assert {
    condition     = yamldecode(output.chart_values).isolation.preferSpot
    error_message = "With a spot pool the chart must prefer it."
  }
  assert {
    condition     = length(module.platform) == 0
    error_message = "The operators wait for a kubeconfig."
  }
}

run "operators_in_the_second_step" {
  command = plan
  variables {
    kubeconfig = "kubeconfig"
  }
  assert {
    condition     = length(module.platform) == 1
    error_message = "With a kubeconfig the operators are installed."
  }
}
