"""Cleaning: filters, near-duplicates, overlap with evaluation sets, and mixtures of sources."""
