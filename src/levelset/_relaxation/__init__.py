"""Bounds of what a network can return for a whole ball of inputs, safe against rounding."""
