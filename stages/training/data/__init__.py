"""What is trained on: rows to tokens, packs, pairs, their reference and their caches."""
