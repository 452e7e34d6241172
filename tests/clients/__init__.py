"""Clients of OpenAI's API that others wrote, driven against a served model: python -m tests.clients."""
