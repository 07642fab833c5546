"""Corrupted digits and disputed labels."""
