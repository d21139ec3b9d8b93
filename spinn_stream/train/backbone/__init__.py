"""Networks to train: backbones by name, and the exits attached to them."""
