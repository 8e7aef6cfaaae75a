"""States and configurations from and for elsewhere."""
