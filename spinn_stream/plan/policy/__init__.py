"""Our policy and the baselines."""
