"""Tools of all other packages that know nothing of diffusion models: files, tables, random streams, messages."""
