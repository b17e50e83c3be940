"""Commands that one begins with: a recipe written, pairs trained on, a model measured."""
