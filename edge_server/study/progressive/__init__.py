"""Questions in rounds: what they save, whom to ask for more, and what nesting is worth."""
