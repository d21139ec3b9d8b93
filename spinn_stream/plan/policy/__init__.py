"""The scheduler and those it is measured against."""
