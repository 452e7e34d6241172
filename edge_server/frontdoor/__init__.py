"""The front door: gRPC and REST. Translates, validates, maps errors; decides nothing and runs no model.

gRPC  grpc_server ─▶ grpc_service, conversation ─▶ questions ─▶ cell ─┐
                                                                      ├─▶ engine
REST  rest, openai ─▶ asking ─▶ ports.Ingest ─────────────────────────┘
"""
