"""What models take in memory, by their config.json, and how it is handed out."""
