"""Training of ``open-small``: a listener of its own, and a foundation that answers from what receivers say.

recordings, instruments, voices ─▶ listener
names of classes and sounds ─▶ captions, questions in many wordings ┐
plain questions ─▶ the foundation's own answers ────────────────────┴─▶ LoRA
"""
