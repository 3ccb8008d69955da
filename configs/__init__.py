"""Recipes and rule sets: data only."""
