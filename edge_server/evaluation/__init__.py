"""Evaluation: questions of a held-out split, asked through the channel, answered by the served model.

Sweeps write JSON; tables and plots read it.
"""
