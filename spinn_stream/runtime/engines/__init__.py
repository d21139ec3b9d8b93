"""The engines: each one file behind one small interface, imported only when it is opened."""
