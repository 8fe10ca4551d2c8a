"""Stage 1: contrastive fine-tuning of the concept tokens (CLIF, section 4.2)."""
