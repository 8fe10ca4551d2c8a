"""Curation (CLIF, section 4.1): from a few images per concept to many image-text pairs."""
