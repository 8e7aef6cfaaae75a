"""Methods that treat a weight as a matrix."""
