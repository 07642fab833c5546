"""Combinations of finished members: reading, selecting, scoring them."""
