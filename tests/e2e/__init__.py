"""Tests of the whole as a user runs it: processes, containers, a browser."""
