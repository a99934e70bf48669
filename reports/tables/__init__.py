"""The tables of a report, as objects: which numbers, in which order, with which footnotes.

Tables know nothing of any output format, and no output format rounds a number.
"""
