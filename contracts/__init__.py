"""What Isthmus processes agree on: wire types, SSE frames, error envelope, headers, telemetry."""
