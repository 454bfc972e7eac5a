"""Networks whose level set is a polyhedron: faces, their partition, the network."""
