"""The command line: flags and help, by click. Nothing else knows click."""
