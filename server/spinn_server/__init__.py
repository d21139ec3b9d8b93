"""The server's side: sessions, batches across them, the rest of the network."""
