"""Evaluation: alignment by a CLIP that training never saw, and confusion by reading the figures of
every image.
"""
