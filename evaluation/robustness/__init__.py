"""Errors on corrupted images, and labels that all models dispute."""
