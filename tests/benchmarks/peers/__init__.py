"""Side by side: our edge server, and what a user would serve the same model with instead.

questions ─▶ load generator ─┬─ gRPC ─▶ edge server
                             ├─ HTTP ─▶ LitServe, Ray Serve, PyTriton, BentoML, FastAPI   (peer_servers)
                             └─ none ─▶ the limit: torch over perfect batches

python -m tests.benchmarks.peers --out docs/results/peers.json
"""

from tests.benchmarks.peers.comparison import measure
from tests.benchmarks.peers.effort import QUICK, Effort
from tests.benchmarks.peers.summary import rows

__all__ = ["QUICK", "Effort", "measure", "rows"]
