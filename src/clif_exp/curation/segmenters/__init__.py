"""What finds masks: one small interface, three segmenters, and room for a user's own."""
