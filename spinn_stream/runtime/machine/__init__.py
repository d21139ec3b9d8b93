"""What a process runs on: clock, threads, cores and memory pages."""
