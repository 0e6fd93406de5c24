"""`python -m stemwright.service.cli` is `stemwright`."""

from stemwright.service.cli.main import main

main()
