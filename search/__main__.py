"""`python -m search`: the command line."""

from search.cli.main import main

if __name__ == "__main__":  # processes of a crew import this file
    main()
