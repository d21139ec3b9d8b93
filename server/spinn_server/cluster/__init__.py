"""Engines on other machines: what sessions send them, and how they answer."""
