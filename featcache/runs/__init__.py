"""The run folder: what a fit leaves, one writer and one reader."""
