"""What lists a concept's parts: the user, an OpenAI-compatible server, or a local model."""
