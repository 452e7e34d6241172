"""Faults on purpose: kills, cut and crippled links, crowds. ``python -m tests.chaos --help``."""
