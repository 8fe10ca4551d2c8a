"""Content-addressed store: fingerprint, lock, atomic publish, sharing, provenance.

python -m clif_exp.artifacts ls|gc|verify [--root artifacts]
"""
