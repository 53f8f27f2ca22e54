"""Evaluation: what published metrics say of samples, molecules and pictures."""
