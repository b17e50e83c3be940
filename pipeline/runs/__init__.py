"""Run directories: what is fresh, how a stage is run, recorded and published; rounds and ranks."""
