"""Pictures from disk, for training and evaluation."""
