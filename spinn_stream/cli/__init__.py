"""The command line of the core: one file for each verb."""
