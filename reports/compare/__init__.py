"""Stores, suites or commits side by side."""
