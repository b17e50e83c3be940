"""Commands that look at tables and follow rows, and write them for other programs."""
