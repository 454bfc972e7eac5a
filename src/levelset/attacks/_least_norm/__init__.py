"""Attacks that look for the smallest perturbation, and what they share."""
