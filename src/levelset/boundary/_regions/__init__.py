"""The shape of class regions: samples of the boundary, spectra, normals, paths, definitions."""
