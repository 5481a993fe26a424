"""Predictions → scores, their spread over seeds, and their confidence intervals."""
