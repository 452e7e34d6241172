"""What a cluster of doors and engines can do, and what kills cost it; python -m tests.benchmarks.cluster."""
