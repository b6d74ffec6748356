"""What a run minimises: the objective, its terms, and the adversary."""
