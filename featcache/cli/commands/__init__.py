"""The commands: each one reads its options, calls the function that does the work, and prints the result."""
