"""From raw points to normals that all point outwards."""
