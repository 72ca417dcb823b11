"""`python -m corgi`."""

from corgi.cli.start import main

main()
