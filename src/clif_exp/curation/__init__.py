"""Curation (CLIF, section 4.1): from a few pictures per concept to many image-text pairs."""
