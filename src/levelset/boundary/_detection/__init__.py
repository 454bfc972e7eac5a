"""Telling perturbed inputs by scores of the boundary around them."""
