"""Plots: one module per figure, each drawn from a results file and nothing else."""
