"""A trained model as others find it: weights, a card with its numbers, and what proves them."""
