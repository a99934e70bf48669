"""Read every row of the tasks that a run will read, before any of its stages starts."""

from __future__ import annotations

import traceback
from functools import cache

from bench.errors import SuiteError
from bench.plan import Plan
from bench.preflight import unchecked
from bench.store import Store
from bench.tasks.task import prepare
from offsite.models import Foundation, load_outline


def check(plan: Plan, store: Store) -> int:
    """Note of every task what is wrong with it; the exit status, 0 if each could be looked at.

    What its stages will tokenise is in the store's `tokens/` afterwards.
    """

    @cache
    def outline(source: str, revision: str | None, trust_remote_code: bool) -> Foundation:
        return load_outline(source, revision=revision, trust_remote_code=trust_remote_code)

    status = 0
    for reading in unchecked(plan, store):
        try:
            task = prepare(reading.task, reading.data, outline(**reading.model), store.tokens)
            task.check()
        except SuiteError as error:
            reading.keep(store, str(error))
        except Exception:  # no fault of a row: the stages will meet it, and say so in their records
            traceback.print_exc()
            status = 1
        else:
            reading.keep(store, None)
    return status
