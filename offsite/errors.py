"""Everything `offsite` raises on purpose.

OffsiteError
├── UnknownArchitecture   we do not know where this model keeps its blocks
├── BadLayout             the block counts asked for do not fit the model
├── NotAModel             a folder or name that holds no model we can load
├── NothingToTrain        a tuning that finds no parameter to train in these blocks
├── NothingToCache        nothing below what is trained that could be kept
└── NotRecordable         a step that cannot be a CUDA graph
"""

from __future__ import annotations


class OffsiteError(Exception):
    """Base class, so a caller can catch all of ours and none of torch's."""


class UnknownArchitecture(OffsiteError):
    """The model's block list is at a path `offsite.blocks` does not list."""


class BadLayout(OffsiteError):
    """Adapter blocks or emulator depth do not fit the model's number of blocks."""


class NotAModel(OffsiteError):
    """The source is neither a model folder nor a name that could be loaded."""


class NothingToTrain(OffsiteError):
    """The tuning method selects no parameter of the trainable blocks."""


class NothingToCache(OffsiteError):
    """Something at the very bottom is trained, so no activation stays what it was."""


class NotRecordable(OffsiteError):
    """A step needs the host in its middle, so it cannot be replayed as one launch."""
