"""`python -m spinn_stream VERB`: as the command `spinn`."""

from spinn_stream.cli.main import main

if __name__ == "__main__":
    main()
