"""The command line: each module prints, and calls the functions that do the work."""
