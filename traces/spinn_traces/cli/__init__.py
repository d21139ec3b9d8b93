"""The verbs `shape`, `trace` and `replay`."""
