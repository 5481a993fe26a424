"""Scores, layer weights and histories → tables, figures and a report for the browser."""
