"""What the server can do under load, a module per promise; see ``python -m tests.benchmarks.serving``.

Every module measures one row: it starts servers in processes of their own, lets what it compares take turns
within one run, and returns plain values. What was promised of them is read from these values alone.
"""

import os

# Processes are started while the threads of gRPC run. Its fork handlers are for children that go on using it;
# these run another program at once, and one of them ended with a segmentation fault.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
