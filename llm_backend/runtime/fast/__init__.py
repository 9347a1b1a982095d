"""CPU kernels: a whole decoder step in C++, for models of Llama's shape. See docs/llm-engine.md."""
