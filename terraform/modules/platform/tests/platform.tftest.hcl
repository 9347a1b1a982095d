mock_provider "helm" {}

variables {
  versions_file = "../../../helm/platform/versions.yaml"
}

run "every_release_is_pinned" {
  command = plan

  assert {
    condition     = length(helm_release.this) == 4 && alltrue([for release in helm_release.this : can(regex("^v?[0-9]+\\.[0-9]+\\.[0-9]+$", release.version))])
    error_message = "Every release must be pinned to a full version."
  }
  assert {
    condition     = strcontains(helm_release.this["gpu-operator"].values[0], "key: sku")
    error_message = "The GPU Operator's pods must tolerate the GPU pools' taint."
  }
}

run "somebody_else_has_prometheus" {
  command = plan
  variables {
    skip = ["kube-prometheus-stack"]
  }
  assert {
    condition     = !contains(keys(helm_release.this), "kube-prometheus-stack") && length(helm_release.this) == 3
    error_message = "A skipped release must not be installed."
  }
}

run "a_misspelt_name" {
  command = plan
  variables {
    skip = ["prometheus"]
  }
  expect_failures = [var.skip]
}
