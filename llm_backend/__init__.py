"""The LLM service: DeepSpeed tensor-parallel inference under MPI, behind the OpenAI contract."""
