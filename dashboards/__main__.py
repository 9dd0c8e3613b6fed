"""`python -m dashboards`: the whole command line."""

from dashboards.cli import main

if __name__ == "__main__":  # child processes import this file
    main()
