"""Data sets: generated (Soundstage) and, in the same annotation formats, recorded ones."""
