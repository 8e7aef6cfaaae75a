"""Optimizers: recipes of primitives, by family."""
