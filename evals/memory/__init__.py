"""What models take in memory, worked out from their config.json, and how it is handed out."""
