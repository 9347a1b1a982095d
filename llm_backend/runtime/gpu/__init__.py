"""Steps on a GPU: one attention kernel for any ragged batch, and CUDA graphs around the model."""
