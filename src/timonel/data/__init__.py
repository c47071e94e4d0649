"""Rows in: sources, quality, split, and the preparation of pictures."""
