"""Conditions and corrections in, plans out."""
