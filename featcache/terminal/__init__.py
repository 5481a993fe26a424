"""Output of commands while they run: escaped text, one console, progress bars and Ctrl-C."""
