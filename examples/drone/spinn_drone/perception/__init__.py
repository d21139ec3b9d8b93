"""What the drone is told about what it sees: the classes, who knows them for sure, and a network that learned them."""
