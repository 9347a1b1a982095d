output "next" {
  description = "What Helm cannot install: the MPI operator and Redis, which are manifests."
  value       = "helm/platform/install --only ${join(" ", keys(local.versions.manifests))}"
}
