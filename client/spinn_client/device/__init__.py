"""What runs here: paths, clock, and the device's own part of the network."""
