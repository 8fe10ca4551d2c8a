"""What is left of a method when its config is taken away: how artifacts of one concept each merge."""
