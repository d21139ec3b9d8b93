"""Parts of benchmarks/fuzz.py: what is sent, who gets it, and what is a fault."""
