"""What the tests of ingest share beside the plugins."""

import pytest

from tests.ingest.ledgers import WatchedLedger
from tests.plugins.ledger import OpenLedger


@pytest.fixture
def watched(database_url: str, open_ledger: OpenLedger) -> WatchedLedger:
    """A ledger over this test's own database, to be looked over the shoulder of."""
    return open_ledger(database_url, type_=WatchedLedger)
