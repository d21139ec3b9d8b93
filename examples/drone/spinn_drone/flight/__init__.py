"""A flight from start to end: in real time with real processes, and in virtual time."""
