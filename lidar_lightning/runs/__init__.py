"""Runs: what stays on disk of the samples that were drawn: their folder, the report, and the comparison."""
