"""Conversion of states and configurations, from elsewhere and back."""
