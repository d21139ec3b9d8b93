"""What the drone sees: the classes, the truth about them, and a network that learned them."""
