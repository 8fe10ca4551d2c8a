"""The base models of one `model=` choice: families, loading, checks, tokens, tuning."""
