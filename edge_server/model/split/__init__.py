"""Models that others have trained, split in two: encoder to the device, language model to the edge.

    raw media ─▶ front end ─▶ tower ─▶ connector ─▶ token reduction ─▶ scale ─▶ [T, C] ─▶ channel
                                                                                              │
    answer ◀─ language model ◀─ [L, E] ◀─ chat template, a placeholder for each token ◀─ scale ◀┘

What a family of models needs stands in one file of :mod:`edge_server.model.split.families`.
"""
