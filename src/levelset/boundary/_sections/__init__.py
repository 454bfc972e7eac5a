"""What a plane or a segment shows of a piecewise-linear network: exact, or by sampling."""
