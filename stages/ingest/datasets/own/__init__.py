"""People's own files: preferences, sided, demonstrations, prompts, unpaired answers."""
