"""The command line: each module prints and calls what does the work."""
