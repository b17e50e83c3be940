"""A judge behind an OpenAI-compatible server: called, paid for and remembered."""
