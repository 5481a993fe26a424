"""A small package of other people's parts; a test installs it."""
