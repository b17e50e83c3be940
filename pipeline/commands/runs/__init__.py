"""Commands that bring runs up to date, and say how they stand."""
