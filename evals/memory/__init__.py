"""How much memory models take, worked out from their config.json: nothing is loaded."""
