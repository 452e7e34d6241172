"""What strangers and one enrolled device do to a server for as long as they can: floods, held memory, texts.

A module per door. Each attack is a function that goes on until a moment; :mod:`tests.chaos.attacks.running`
has them by the kinds that rows name.
"""
