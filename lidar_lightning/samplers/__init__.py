"""Samplers: the loop over backbone, guidance and solver."""
