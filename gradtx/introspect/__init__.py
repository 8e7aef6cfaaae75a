"""What a transformation is and does, shown."""
