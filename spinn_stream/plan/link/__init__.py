"""What is believed of the link, and when to ask it."""
