"""Preference losses: their settings, and the functions of log-probabilities behind them."""
