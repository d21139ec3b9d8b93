"""What is known of the link: beliefs, readings, and when to ask it."""
