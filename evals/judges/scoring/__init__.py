"""Scoring by label tokens: what a next token says of a comparison."""
