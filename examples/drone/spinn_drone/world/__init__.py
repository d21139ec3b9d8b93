"""What the drone flies in: its motion, the forest, and what its camera sees."""
