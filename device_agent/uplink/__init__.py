"""The gRPC client: credentials, a session that is kept alive, one stream for many questions."""
