"""What is typed: one module a command, in rooms by what it is about."""
