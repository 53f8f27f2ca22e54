"""What everything rests on, and nothing of diffusion models: files, tables, random streams, messages."""
