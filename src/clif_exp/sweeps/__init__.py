"""Many jobs by one command: which of them are left to do, where they run, and what came out."""
