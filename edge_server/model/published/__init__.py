"""Encoders and foundations that others have trained, read from local Hugging Face folders."""
