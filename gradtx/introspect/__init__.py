"""Inspect a transformation: its parts, memory, metrics."""
