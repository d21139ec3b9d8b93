"""A drone that flies through a forest by camera alone: an application of spinn_client."""
