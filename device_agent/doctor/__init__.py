"""``device-agent doctor``: tries what the service needs, and says what to do about what it finds."""
