"""The server on a cluster of Ray: which parts run where, and how many of them."""
