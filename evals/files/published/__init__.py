"""Published numbers, recomputed from published files that the user has."""
