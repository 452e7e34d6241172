"""Tests, and programs that measure what was promised."""
