"""The edge's half of co-training: receivers and LoRA learn from what many devices send, beside serving."""
