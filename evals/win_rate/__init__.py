"""The win rate of A over B, from saved verdicts and nothing else, and what belongs to it."""
