"""Cache × folds × head → trained heads."""
