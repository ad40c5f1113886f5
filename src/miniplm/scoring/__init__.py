"""Log-probabilities of sequences under a model, kept in score tables."""
