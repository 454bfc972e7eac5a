"""Triangle meshes: made from fields, kept, cut, sampled and compared."""
