"""A recorded training: what is on disk, how it is read, and the rule that made each step."""
