"""Training of ``open-small``: its foundation learns to answer from the captions that the receiver gives.

names of classes ─▶ captions, questions in many wordings ┐
plain questions ─▶ the foundation's own answers ─────────┴─▶ LoRA
"""
