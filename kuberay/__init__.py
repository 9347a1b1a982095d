"""Typed client for the cluster's custom resources, and proofs about placement."""
