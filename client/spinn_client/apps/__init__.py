"""Programs built on the public API: each is a verb of the command line."""
