"""What a method trains in a U-Net, and its files: one module per kind, listed in `registry`.

Every other room trains, loads and exports through `kind.UNetTuning` and `registry`; the names of
the files are known here only.
"""
