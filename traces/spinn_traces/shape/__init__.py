"""A TCP proxy that makes a link as slow and as far as you say."""
