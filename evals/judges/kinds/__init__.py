"""The kinds of judges, one module each."""
