"""What the server can do under load, a module per promise; see ``python -m tests.benchmarks.serving``.

Every module measures one row: it starts servers in processes of their own, lets what it compares take turns
within one run, and returns plain values. What was promised of them is read from these values alone.
"""
