"""`lmaas train`: from a data set to a model version in the repository."""
