"""Curves: reconstructed from points, and traced on any field."""
