"""Load tests of an edge server, from the outside: public client APIs only.

profile ─▶ users ─▶ generator ─▶ Connection.ask ══▶ server
                        └─▶ Measurement ─▶ thresholds, JSON, plot
"""
