"""One table of what was promised: asked, measured, met, by which command and commit.

    python -m tests.benchmarks.promises          make promises: the table, and docs/results/promises.json

Nothing is measured here. What is asked stands beside what measures it, or, where nothing does yet, in
``asked/AREA.toml``. What was measured stands in docs/results. A program that measures a promise of ``asked``
puts this into its result, at the top, and the row is filled:

    "command": "edge-server study cell", "measures": ["edge_server/cell"], "commit": "...",
    "promises": [
      {"what": "as in asked", "measured": 0.98, "met": true, "sides": {"on [/s]": 98, "off [/s]": 100}}
    ]

A ratio names its two sides, first over second. Without them, or with nothing below, it is not met.
"""
