"""A run × new audio → predictions."""
