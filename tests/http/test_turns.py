"""Callbacks of one turn of the event loop: what goes wrong with one is no other's trouble."""

import asyncio
import json
from functools import partial

from ledger.domain.identity import Names
from ledger.http.edge import Edge
from ledger.http.webhooks import Admitted, Answer, Webhooks
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Writer
from ledger.providers import PROVIDERS
from ledger.store.application import Ledger
from ledger.wire.contract import Headers
from projections import current_status
from tests.plugins.ledger import PATIENCE_SECONDS
from tests.providers.requests import an_account, header_pairs
from tests.providers.senders import meta_status, sign_meta, wrap_meta

JSON = (b"content-type", b"application/json")
ACCOUNT = an_account("meta", "secret")


def test_an_answer_that_cannot_be_given_keeps_no_other_from_being_given() -> None:
    webhooks = taking(Edge(no_writer), Names(b"a secret of a deployment"))
    unsigned = admitted(webhooks, Headers([]))
    given: list[int] = []

    def cannot(_answer: Answer) -> None:
        raise OSError("the connection is gone")

    async def turn() -> None:
        webhooks.take(unsigned, b"{}", cannot)
        webhooks.take(unsigned, b"{}", lambda answer: given.append(answer.status))
        await asyncio.sleep(0)

    asyncio.run(turn())

    assert given == [401]


def test_what_the_queue_has_no_room_for_any_more_is_not_read(ledger: Ledger) -> None:
    edge = Edge(lambda deliver: Writer(ledger, partial(current_status.row, ledger.names), deliver, queue_max=1))
    webhooks = taking(edge, ledger.names)
    signed = sign_meta(wrap_meta([json.dumps(meta_status()).encode()]), b"secret")

    async def turn() -> tuple[Answer, Answer]:
        edge.open()
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        webhooks.take(admitted(webhooks, Headers(header_pairs(signed))), signed.body, first.set_result)
        webhooks.take(admitted(webhooks, Headers([JSON])), b"{}", second.set_result)  # 401, were it read
        answers = await asyncio.wait_for(asyncio.gather(first, second), PATIENCE_SECONDS)
        await edge.close()
        return answers[0], answers[1]

    first, second = asyncio.run(turn())

    assert (first.status, second.status) == (200, 503)


def taking(edge: Edge, names: Names) -> Webhooks:
    intake = Intake(ACCOUNT, PROVIDERS["meta"], names, keeps_items=True)
    return Webhooks({ACCOUNT.name: intake}, edge, body_bytes_max=1_000)


def admitted(webhooks: Webhooks, headers: Headers) -> Admitted:
    found = webhooks.admit(ACCOUNT.name, "POST", b"", headers)
    assert isinstance(found, Admitted)
    return found


def no_writer(_deliver: object) -> Writer:
    raise AssertionError("nothing here is written")
