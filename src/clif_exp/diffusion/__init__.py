"""Stage 2: training of the text-to-image decoder on all concepts together (CLIF, section 4.3)."""
