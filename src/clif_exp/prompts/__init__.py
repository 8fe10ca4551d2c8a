"""Templates, placeholders and the prompts of the evaluation."""
