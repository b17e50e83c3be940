"""What evaluate does with a standard set: a second turn, its own scores, how it was judged."""
