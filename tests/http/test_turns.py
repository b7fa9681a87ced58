"""Callbacks of one turn of the event loop: what goes wrong with one is no other's trouble."""

import asyncio

from ledger.domain.identity import Names
from ledger.http.edge import Edge
from ledger.http.webhooks import Admitted, Answer, Webhooks
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Writer
from ledger.providers import PROVIDERS
from ledger.wire.contract import Headers
from tests.providers.requests import an_account


def test_an_answer_that_cannot_be_given_keeps_no_other_from_being_given() -> None:
    account = an_account("meta", "secret")
    intake = Intake(account, PROVIDERS["meta"], Names(b"a secret of a deployment"), keeps_items=True)
    webhooks = Webhooks({account.name: intake}, Edge(no_writer), body_bytes_max=1_000)
    unsigned = webhooks.admit(account.name, "POST", b"", Headers([]))
    assert isinstance(unsigned, Admitted)
    given: list[int] = []

    def cannot(_answer: Answer) -> None:
        raise OSError("the connection is gone")

    async def turn() -> None:
        webhooks.take(unsigned, b"{}", cannot)
        webhooks.take(unsigned, b"{}", lambda answer: given.append(answer.status))
        await asyncio.sleep(0)

    asyncio.run(turn())

    assert given == [401]


def no_writer(_deliver: object) -> Writer:
    raise AssertionError("nothing here is written")
