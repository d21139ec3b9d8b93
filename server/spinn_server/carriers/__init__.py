"""Carriers: they move the messages of sessions."""
