"""The live view: the forest from above, what the camera sees, and how old the answer is that is acted on."""
