"""Request → runs: what is asked for, resolved once, trained, and written."""
