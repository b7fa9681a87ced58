"""Every projection that follows the log."""

from typing import Final

from projections.conversations import Conversations
from projections.feed import Projection
from projections.poll_schedule import PollSchedule
from projections.reports import Reports
from projections.status_changes import STATUS_CHANGES

PROJECTIONS: Final[tuple[Projection, ...]] = (Reports(), PollSchedule(), Conversations(), STATUS_CHANGES)
