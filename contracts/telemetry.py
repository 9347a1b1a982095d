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

# The gateway: each replica counts its own.
GATEWAY_REQUESTS_TOTAL = "isthmus_gateway_requests_total"
GATEWAY_TTFT_SECONDS = "isthmus_gateway_time_to_first_token_seconds"
GATEWAY_TOKENS_TOTAL = "isthmus_gateway_tokens_total"
GATEWAY_REFUSED_TOTAL = "isthmus_gateway_refused_total"
GATEWAY_DEGRADED_TOTAL = "isthmus_gateway_degraded_total"
GATEWAY_ADMISSION_RUNNING = "isthmus_gateway_admission_running"
GATEWAY_ADMISSION_WAITING = "isthmus_gateway_admission_waiting"
GATEWAY_ADMISSION_LIMIT = "isthmus_gateway_admission_limit"
GATEWAY_HELD = "isthmus_gateway_held_requests"
GATEWAY_SCALING_HELD = "isthmus_gateway_scaling_held"

# By tenant, for those who may see it.
GATEWAY_TENANT_REQUESTS_TOTAL = "isthmus_gateway_tenant_requests_total"
GATEWAY_TENANT_TOKENS_TOTAL = "isthmus_gateway_tenant_tokens_total"
GATEWAY_TENANT_RUNNING = "isthmus_gateway_tenant_running"
GATEWAY_TENANT_WAITING = "isthmus_gateway_tenant_waiting"
