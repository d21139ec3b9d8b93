"""When to plan anew, which plan is the best, and whether it is worth a change."""
