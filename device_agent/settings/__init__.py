"""What settings are made of, for the agent and the edge server: names, sources, flags and their page.

A program declares each setting once, as a field of a pydantic model: type, default, bounds and, under it, its
help. Everything else that is said about it comes from there.
"""
