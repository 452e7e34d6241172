"""Alignments at equal computation: what pairs of clip and free caption are worth, without labels."""
