"""What the study found, gathered into one JSON file per figure.

:mod:`edge_server.study.plots` draws them, and reads nothing else.
"""
