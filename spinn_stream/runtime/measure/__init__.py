"""How long pieces take on this machine: measured, and kept between runs."""
