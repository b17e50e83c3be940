"""A vLLM engine in this process."""
