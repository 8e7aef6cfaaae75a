"""States and configurations that come from elsewhere, or go there."""
