"""What a chat template writes: turns and their ends, thoughts, and what imitates them."""
