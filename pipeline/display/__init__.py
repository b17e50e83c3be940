"""What a person sees on a terminal: progress, settings, rows of tables, outcomes."""
