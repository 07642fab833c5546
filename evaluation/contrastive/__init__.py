"""Frozen encoders: features, probes, clustering."""
