"""`python -m embedstream` is the command `embedstream`."""

from embedstream.cli import main

main()
