"""Digital baselines at the same channel uses: compressed media, or quantised tokens, behind a channel code.

    media  ─▶ JPEG, Opus ──┐                                                       ┌─▶ encoders at the server
                           ├─▶ bits ─▶ 5G LDPC, QAM ─▶ channel ─▶ decoded, or lost ─┤
    tokens ─▶ quantiser ───┘                                                       └─▶ receivers

``mcs`` lists modulations and rates, ``coding`` simulates them (Sionna), ``error_table`` keeps what came out,
``codes`` is what the baselines see: that table, or an ideal code. ``media`` has the source codecs, ``ladder``
what they make of a split; ``separate`` and ``quantised`` are the two baselines, ``delivery`` what they share.

Sionna is imported by whoever simulates, not by whoever reads a table.
"""
