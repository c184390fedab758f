"""Hyperparameter search over depth, width factor k and cardinality."""
