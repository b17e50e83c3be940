"""From the summary to one HTML file."""
