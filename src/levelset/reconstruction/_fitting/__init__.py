"""From oriented points to a field, by least squares on a grid of splines."""
