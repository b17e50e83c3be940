"""Several trainings of one recipe: settings that are swept, seeds that are repeated."""
