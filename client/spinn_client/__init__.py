"""The device's side: frames in, the first layers, an answer for every frame by its deadline."""
