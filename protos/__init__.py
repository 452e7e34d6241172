"""The contract: the .proto, its committed stubs and the payload codec. Nothing heavy."""
