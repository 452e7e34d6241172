"""The HTTP door: REST, the OpenAI-compatible API, bodies within limits, API keys."""
