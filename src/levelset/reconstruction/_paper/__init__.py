"""The paper's own training of a network on raw points."""
