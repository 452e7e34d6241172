"""Doors and engines on several machines, a NATS JetStream broker between them.

    door  ─ DoorClient ─▶ claim (KV) ─▶ work queue of the model ◀─ pull ─ EngineWorker ─▶ an engine
             ▲                                                              │
             └────────────── pieces of the answer, to the door's inbox ◀────┘

A door is the server as it is, with :class:`edge_server.cluster.door_client.DoorClient` for its engine. An
engine node pulls as many questions as it has room for, and acknowledges each at its end: what a dead one had
in hand is delivered again, elsewhere.
"""
