"""Predictions → scores, their spread over seeds, their confidence intervals, comparisons and votes."""
