"""Files for the tools that people use: diffusers, ComfyUI, A1111."""
