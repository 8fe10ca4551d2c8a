"""Generation: images from prompts x seeds, by the stock diffusers pipeline."""
