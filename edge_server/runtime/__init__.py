"""What computes when serving: prompts packed without padding, a KV cache, decode steps, the model runner."""
