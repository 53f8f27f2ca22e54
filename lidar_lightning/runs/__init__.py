"""Runs: what is left on disk of samples that were drawn, from their folder to the report and the comparison."""
