"""The Ray Serve application: gateway, retriever, ingestor."""
