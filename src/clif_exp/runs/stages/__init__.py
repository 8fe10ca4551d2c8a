"""Each stage's wiring: the settings and inputs that its result depends on, and the call into its
room.
"""
