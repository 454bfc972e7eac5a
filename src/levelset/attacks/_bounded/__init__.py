"""Attacks that look for the worst point within a radius, and what they share."""
