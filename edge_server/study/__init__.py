"""Comparisons of systems: training them, asking them, figures, plots, and the page of results."""
