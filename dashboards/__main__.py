"""`python -m dashboards`: the whole command line."""

from dashboards.cli import main

if __name__ == "__main__":  # processes of a crew import this file
    main()
