"""Tests of what clients and both halves rely on: the wire, REST, files, commands."""
