"""What an operator sees: lanes, workers, dead letters, failures."""
