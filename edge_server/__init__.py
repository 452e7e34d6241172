"""The edge server at the base station: front door, cell, batching engine, model, and its training."""
