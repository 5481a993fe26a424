"""Runs → folders that can be shared."""
