"""Draws ToonWorld's characters and scenes."""
