"""Statistics that know nothing of judges: intervals and estimates."""
