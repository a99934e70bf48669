"""Everything `reports` raises on purpose.

ReportError
└── BadRecord   a record file that is damaged, or of a schema this version does not read
"""

from __future__ import annotations


class ReportError(Exception):
    """Base class, so a caller can catch all of ours."""


class BadRecord(ReportError):
    """The file is not a whole record of the schema version we read."""
