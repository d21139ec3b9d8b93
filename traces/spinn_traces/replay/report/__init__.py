"""What came of the runs, as a page, a table and JSON."""
