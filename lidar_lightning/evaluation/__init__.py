"""Evaluation of samples, molecules and pictures, by published metrics."""
