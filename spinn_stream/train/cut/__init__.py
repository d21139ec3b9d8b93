"""Where a network can be cut: its pass recorded, cut points found, multiply-adds counted."""
