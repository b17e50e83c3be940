"""Rows to tokens: rendered in batches, made to fit, kept in a file, and what was left out."""
