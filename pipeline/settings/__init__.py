"""What can be set in a recipe, read off the types that check it: keys, legal values, meanings."""
