"""Evaluation: alignment by a CLIP that training never uses, and confusion by reading figures."""
