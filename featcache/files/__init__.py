"""Reading and writing files so that nothing unfinished looks finished, and nothing hostile is followed."""
