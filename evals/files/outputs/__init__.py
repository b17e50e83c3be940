"""Outputs that others have let models write, and the prompts they answer."""
