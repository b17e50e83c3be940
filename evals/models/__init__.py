"""Causal language models: opened, rendered for, scored with and sampled from."""
