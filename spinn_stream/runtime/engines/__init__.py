"""The engines: one file each, behind one small interface, imported only when the engine is opened."""
