"""The loss of a run: the objective, its terms, and the discriminators."""
