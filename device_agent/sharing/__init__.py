"""Sharing: sources become scenes at the edge, window after window, through the outbox."""
