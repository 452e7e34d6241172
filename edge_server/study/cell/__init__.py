"""Cells that are made up: what joint allocation gains over other ways to share one out."""
