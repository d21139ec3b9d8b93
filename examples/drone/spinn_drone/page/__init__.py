"""The live view: the forest from above, the camera's picture, and the age of the answer in use."""
