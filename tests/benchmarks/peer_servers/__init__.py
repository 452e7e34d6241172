"""What a user would serve the model with instead: a small server per library, each in a process of its own.

    bytes of a pb.Question ─▶ the library's front door and batcher ─▶ Answerer ─▶ text

Modules here run in the virtual environments that ``tests.benchmarks.peers.environments`` makes. They import
the model's code and nothing of the comparison.
"""
