"""Means, intervals and comparisons: numbers in, numbers out, nothing of records or tables."""
