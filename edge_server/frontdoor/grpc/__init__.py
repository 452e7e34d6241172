"""The gRPC door: services, the Converse stream, limits on calls."""
