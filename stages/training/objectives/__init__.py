"""What a training minimises: preferences, or the likelihood of completions."""
