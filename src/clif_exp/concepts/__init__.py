"""Concept sets: types, formats, reading, images."""
