"""Families of models that can be split, a file each: written here, it is known."""
