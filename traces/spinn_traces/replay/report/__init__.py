"""The results of the runs, as a page, a table and JSON."""
