"""Curves: reconstructed from points in the plane, and traced on any field."""
