"""What noise around a point does to its class: stability, persistence, certificates."""
