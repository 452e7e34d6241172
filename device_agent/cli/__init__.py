"""The ``device-agent`` command."""
