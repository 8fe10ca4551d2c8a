"""Training recipes of ToonWorld's base models, one file each; `python -m clif_exp.toonworld.train`
runs them.
"""
