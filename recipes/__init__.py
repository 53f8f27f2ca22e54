"""Runs as short scripts: `python -m recipes.NAME --help`."""
