"""Training recipes of ToonWorld's base models, run by `python -m clif_exp.toonworld.train`."""
