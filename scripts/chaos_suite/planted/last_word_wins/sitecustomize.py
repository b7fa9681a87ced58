"""A planted error: a delivery that is reported after a failure takes its place, as in a table with a status column.

`planted/answers_first` tells how this gets into the service.
"""

from typing import Any, cast

from ledger.domain import message, status
from ledger.domain.status import VERDICTS, Status, Verdict

_after_failure = cast(dict[Status, Any], VERDICTS[Status.FAILED])
_after_failure.update(dict.fromkeys((Status.DELIVERED, Status.READ, Status.DELETED), Verdict.ADVANCE))
status.skipped = message.skipped = lambda *_told: ()  # type: ignore[attr-defined]
