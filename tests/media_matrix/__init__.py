"""Kinds of media files by what may be in them, on every way in, against FFmpeg's program and Pillow.

    kinds ──▶ features make a file of each kind ──▶ ways in (agent, watch, REST, page, training) ──┐
                            └──▶ views (the ffmpeg program; Pillow) ───────────────────────────────┴──▶ right?

``python -m tests.media_matrix`` needs the ffmpeg program. Nothing of the project takes part in making files
or views.
"""
