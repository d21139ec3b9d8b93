"""The drone's world: its motion, the forest, and its camera."""
