"""The OpenAI-compatible HTTP API on the device: requests become sessions, steps become server-sent events. No torch."""
