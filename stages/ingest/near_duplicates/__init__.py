"""Texts that say nearly the same: near-duplicate prompts, and overlap with evaluation sets."""
