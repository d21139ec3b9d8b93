"""Text files in pieces, their tables, and the units of their columns."""
