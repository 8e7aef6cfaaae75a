"""Transformations around a whole optimizer."""
