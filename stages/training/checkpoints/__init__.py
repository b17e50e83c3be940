"""Checkpoints: to resume from, to keep, to publish, and the adapters on them."""
