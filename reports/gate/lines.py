"""What the gate judges one by one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CLOSED = ConfigDict(extra="forbid", frozen=True)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Line(BaseModel):
    """What the runs of a baseline are grouped by: one row of one table."""

    model_config = CLOSED

    model: str
    layout: str = ""
    compression: str = ""
    tuning: str = ""
    task: str = ""
    setting: str = ""
    stage: str
    peer: str = ""
    metric: str

    @property
    def name(self) -> str:
        """All that is not empty."""
        return " ".join(filter(None, self.model_dump().values()))

    @property
    def place(self) -> Line:
        """What all metrics of its stages share."""
        return self.model_copy(update={"metric": ""})
