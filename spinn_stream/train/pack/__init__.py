"""A trained network -> a bundle: temperatures, thresholds, the codec's bases, tables and files."""
