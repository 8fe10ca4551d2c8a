"""What a method trains in a U-Net, and its files: one module per kind, listed in `registry`.

Every other room trains, loads and exports through `kind.UNetTuning` and `registry`; nobody else
knows the names of the files.
"""
