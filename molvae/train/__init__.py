"""Optimisation of the weights: the loop, its optimiser, its log, and priors fitted to frozen codes."""
