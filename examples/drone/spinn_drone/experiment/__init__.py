"""What the age of an answer does to a flight: every policy on every network through the same forests."""
