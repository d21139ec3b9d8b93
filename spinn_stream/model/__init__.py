"""A network with exits: made, trained, exported (with torch), and read back (without)."""
