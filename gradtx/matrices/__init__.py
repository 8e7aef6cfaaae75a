"""What treats a weight as a matrix."""
