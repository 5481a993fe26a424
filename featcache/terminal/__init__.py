"""What people see while a command runs: escaped text, one console, progress, Ctrl-C."""
