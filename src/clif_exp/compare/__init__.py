"""Compares runs: tables with statistics, and one page that opens without a network."""
