"""Shared by figures in matplotlib and on a page: colours, places, computed numbers."""
