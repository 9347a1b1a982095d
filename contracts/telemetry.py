"""Metric and span names, so that dashboards, alerts and both sides say the same word.

Prometheus naming: base units, `_total` for counters. Names of LLM serving metrics follow
OpenTelemetry's GenAI terms (TTFT, ITL) under the `isthmus_` prefix.
"""

from __future__ import annotations

# The LLM service.
LLM_REQUESTS_TOTAL = "isthmus_llm_requests_total"
LLM_REQUESTS_RUNNING = "isthmus_llm_requests_running"
LLM_REQUESTS_WAITING = "isthmus_llm_requests_waiting"
LLM_PROMPT_TOKENS_TOTAL = "isthmus_llm_prompt_tokens_total"
LLM_GENERATED_TOKENS_TOTAL = "isthmus_llm_generated_tokens_total"
LLM_TTFT_SECONDS = "isthmus_llm_time_to_first_token_seconds"
LLM_ITL_SECONDS = "isthmus_llm_inter_token_latency_seconds"
LLM_REQUEST_SECONDS = "isthmus_llm_request_duration_seconds"
LLM_ENGINE_READY = "isthmus_llm_engine_ready"
LLM_ENGINE_RESTARTS_TOTAL = "isthmus_llm_engine_restarts_total"
LLM_KV_BLOCKS = "isthmus_llm_kv_blocks"
LLM_CACHED_TOKENS_TOTAL = "isthmus_llm_cached_tokens_total"
LLM_PREEMPTIONS_TOTAL = "isthmus_llm_preemptions_total"
