"""Curvature: Hessians, whole or by products, what smooths them, and their eigenvalues."""
