"""Looking into a transformation: its parts, memory, metrics."""
