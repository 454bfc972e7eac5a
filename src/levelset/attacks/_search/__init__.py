"""What several attacks share; none of it is an attack."""
