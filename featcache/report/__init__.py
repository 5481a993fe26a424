"""Scores, layer weights and training histories → tables, figures and an HTML report."""
