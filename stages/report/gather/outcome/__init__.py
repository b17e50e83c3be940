"""What came out: win rates by judges and by people, rounds, standings, and every verdict."""
