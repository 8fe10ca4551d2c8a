"""CLIF: teach a text-to-image model several concepts without confusing them (ICML 2024, arXiv
2405.06914).
"""

__version__ = "0.1.0"
