"""Standard sets of prompts by name, from files in their published layouts, and their own scores."""
