"""The radio that is emulated: beside Sionna's, and what it does to the shipped model's answers."""
