"""Triangle meshes: extracted from fields, saved, cut, sampled and compared."""
