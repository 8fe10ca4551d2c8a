"""The embedded default: a drawn world whose truth is known, its base models and its oracle."""
