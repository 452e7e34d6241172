"""The page at ``/``: what the server does right now, and a playground that asks it.

    engine, cell, front door ──▶ WatchedMetrics ──▶ live panel ──┐
    shipped or uploaded clip ──▶ trial ──▶ Asker ──▶ playground ─┴──▶ NiceGUI ──▶ browser (one WebSocket)

An extra, ``tokenlink[ui]``: a server that runs without the page imports nothing of it. The page asks through
the door through which REST asks (:class:`edge_server.frontdoor.http.asking.Asker`) and counts nothing twice.
Modules that import NiceGUI: :mod:`~edge_server.ui.page`, :mod:`~edge_server.ui.arrivals`,
:mod:`~edge_server.ui.live`, :mod:`~edge_server.ui.playground`.
"""
