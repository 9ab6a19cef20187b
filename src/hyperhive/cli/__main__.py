"""`python -m hyperhive.cli`: the command line by its module's name, as services start it."""

from hyperhive.cli import main

if __name__ == "__main__":
    main()
