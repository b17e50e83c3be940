"""What training takes in memory, before it is begun."""
