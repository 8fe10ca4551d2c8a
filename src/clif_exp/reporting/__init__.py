"""Reporting: one self-contained page per run, sample grids, and tables for trackers."""
