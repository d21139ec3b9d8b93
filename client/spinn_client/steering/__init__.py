"""Gives conditions and corrections to the scheduler, and its plans to the pipeline."""
