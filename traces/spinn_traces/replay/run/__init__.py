"""One run after the other: material, policies, processes."""
