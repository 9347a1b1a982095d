locals {
  versions = yamldecode(file(var.versions_file))
  releases = { for name, release in local.versions.releases : name => release if !contains(var.skip, name) }
}

resource "helm_release" "this" {
  for_each = local.releases

  name             = each.key
  repository       = each.value.repository
  chart            = each.value.chart
  version          = each.value.version
  namespace        = each.value.namespace
  create_namespace = true
  atomic           = true
  timeout          = 900
  values           = [file("${dirname(var.versions_file)}/values/${each.key}.yaml")]
}
