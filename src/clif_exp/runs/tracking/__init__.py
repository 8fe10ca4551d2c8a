"""W&B and TensorBoard: what a run sends them, live, and how it stays one run over kills."""
