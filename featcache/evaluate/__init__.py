"""Predictions → scores, standard deviations over seeds, confidence intervals, comparisons and votes."""
