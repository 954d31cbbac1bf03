"""Jobs: work that callers leave here and come back for."""
