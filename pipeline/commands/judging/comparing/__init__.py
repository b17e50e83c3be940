"""The compare command: who takes part, the recipe that it comes to, and the leaderboard."""
