"""Raw rows: where they come from, how they are read, and what to do where they cannot be."""
