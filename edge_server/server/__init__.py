"""The process: settings, loading, composition root, security, rollout. Only the command line imports it."""
