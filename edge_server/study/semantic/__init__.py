"""Semantic digital beside analog: tokens as a few bits, one codeword, sent again until it is decoded."""
