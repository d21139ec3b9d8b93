"""Requests, batches, and the thread that runs them."""
