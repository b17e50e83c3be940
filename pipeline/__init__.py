"""The application: recipes, runs and the command line over the stages."""
