"""Synthetic classes, episodes and letters for metric learning."""
