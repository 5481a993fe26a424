"""Options of a fit → settings, folds and features → trained heads and run folders."""
