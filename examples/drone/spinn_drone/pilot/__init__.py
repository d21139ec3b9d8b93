"""Decides how to fly, from answers and their age."""
