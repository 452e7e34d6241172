"""Programs that measure, a command each; what they find goes into docs/results."""
