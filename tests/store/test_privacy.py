"""A copy of the database says nothing about who was written to.

Everything a person could be recognised by goes in through real callbacks, registrations and failures; then every
column of every table is searched for it, as it is and as it might be encoded. The same search over the opened history
shows that it was there to be found.
"""

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import pytest
from psycopg import sql

from ledger.domain.events import RegisteredDetails
from ledger.domain.identity import Names
from ledger.domain.message import Correct
from ledger.domain.status import Channel, Outcome, Style
from ledger.ingest.accept import Intake
from ledger.ingest.register import LocalFailure, Registration, Sender
from ledger.ingest.writer import Statement
from ledger.providers import PROVIDERS
from ledger.store import captures
from ledger.store.application import Ledger
from ledger.store.keys import ApiKeys
from ledger.wire.contract import Account, Headers, Secret, Webhook
from tests.builders import NAMES, a_receipt
from tests.plugins.ledger import Pen

NOW: Final = datetime(2025, 3, 1, 12, tzinfo=UTC)
SECRET: Final = "app secret canary"
PHONE: Final = "15550100123"
#: Holds the phone number, as every wamid does.
WAMID: Final = (
    "wamid." + base64.b64encode(b"\x1c\x18\x0b" + PHONE.encode() + b"\x15\x02\x00\x11\x18\x12CANARY").decode()
)

CANARIES: Final = {
    "phone": PHONE,
    "wamid": WAMID,
    "wamid, its random part": WAMID.removeprefix("wamid."),
    "user id": "US.13491208655302741918",
    "group member": "15550100777",
    "error text": "Recipient canary is blocked",
    "what the sender attached": "order canary 4711",
    "recipient as registered": "+15550100888",
    "conversation": "conversation-canary",
    "metadata": "metadata-canary",
    "sender's failure": "no route for canary",
    "captured item": "captured-canary",
    "captured request": "unreadable-canary",
}

ACCOUNT: Final = Account(
    name="meta-main",
    provider="meta",
    channel=Channel.WHATSAPP,
    secrets=(Secret(SECRET),),
    public_url="https://status.example.com/webhooks/meta-main",
)
INTAKE: Final = Intake(ACCOUNT, PROVIDERS["meta"], NAMES, keeps_items=True)


def signed(body: bytes) -> Webhook:
    digest = hmac.digest(SECRET.encode(), body, "sha256").hex().encode()
    headers = Headers([(b"x-hub-signature-256", b"sha256=" + digest)])
    return Webhook(method="POST", url=ACCOUNT.public_url, query=b"", headers=headers, body=body)


def callback(*statuses: dict[str, Any]) -> bytes:
    value = {"metadata": {"phone_number_id": "1065"}, "statuses": statuses}
    return json.dumps({"entry": [{"changes": [{"field": "messages", "value": value}]}]}).encode()


STATUSES: Final[list[dict[str, Any]]] = [
    {
        "id": WAMID,
        "status": "failed",
        "timestamp": str(int(NOW.timestamp())),
        "recipient_id": PHONE,
        "recipient_user_id": CANARIES["user id"],
        "biz_opaque_callback_data": CANARIES["what the sender attached"],
        "errors": [{"code": 131026, "title": CANARIES["error text"]}],
    },
    {
        "id": WAMID,
        "status": "delivered",
        "timestamp": str(int(NOW.timestamp())),
        "recipient_id": "120363000000000000",
        "recipient_type": "group",
        "recipient_participant_id": CANARIES["group member"],
    },
    {"id": ["captured-canary"], "status": "sent"},
]


@pytest.fixture(scope="module")
def told(module_ledger: Ledger) -> Ledger:
    """A ledger that was told every canary, in every way there is."""
    pen = Pen(module_ledger)
    for body in (callback(*STATUSES), b'{"entry": "unreadable-canary'):
        pen.do(INTAKE.accept(signed(body), NOW, "application/json").job)
    sender = Sender("meta-main", "meta", NAMES)
    details = RegisteredDetails(
        recipient=CANARIES["recipient as registered"],
        client_reference=CANARIES["what the sender attached"],
        conversation_id=CANARIES["conversation"],
        conversation_part_id=CANARIES["conversation"],
        metadata={CANARIES["metadata"]: CANARIES["metadata"]},
    )
    registration = Registration(channel=Channel.WHATSAPP, details=details)
    stream_id = sender.stream_of(registration, b"registration")
    pen.do(sender.register(stream_id, registration, b"registration", NOW))
    pen.do(sender.fail(stream_id, Channel.WHATSAPP, LocalFailure(CANARIES["sender's failure"]), NOW))
    handed_off = Registration(channel=Channel.WHATSAPP, details=RegisteredDetails(provider_message_id=WAMID))
    job, leading = sender.hand_off(stream_id, 1, handed_off, NOW)
    pen.do(job)
    delivered = callback({"id": WAMID, "status": "read", "timestamp": str(int(NOW.timestamp())), "recipient_id": PHONE})
    pen.do(INTAKE.accept(signed(delivered), NOW, "application/json").job)
    receipt = a_receipt(account="meta-main", provider="meta", received_at=NOW)
    correct = Correct(to=Outcome.DELIVERED, by="operator-1", why="answered", relied_on=(), receipt=receipt)
    pen.write(Statement(leading, correct))
    pen.writer.close()
    return module_ledger


def contents(ledger: Ledger) -> Iterator[tuple[str, bytes]]:
    """Yield every value of every column of every table, as bytes, with the column's name."""
    with ledger.reading() as cursor:
        tables = cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
            names = [column.name for column in cursor.description or ()]
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    yield f"{table}.{name}", value if isinstance(value, bytes) else str(value).encode()


def forms(canary: str) -> Iterator[bytes]:
    """Yield a text in the forms in which it could be found again: plain, hex, URL-encoded, in Base64 at any offset."""
    data = canary.encode()
    yield data
    yield data.hex().encode()
    yield quote(canary, safe="").encode()
    yield canary.encode("utf-16-le")
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data)
        whole = encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4]  # less what neighbours would change
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


@pytest.mark.parametrize("canary", sorted(CANARIES))
def test_nothing_personal_stands_in_any_column(told: Ledger, canary: str) -> None:
    searched = [(column, form) for column, value in contents(told) for form in forms(CANARIES[canary]) if form in value]

    assert searched == []


def test_everything_was_told_and_can_be_read_with_the_keys(told: Ledger) -> None:
    opened = []
    with told.reading() as cursor:
        streams = [row[0] for row in cursor.execute("SELECT DISTINCT stream_id FROM events")]
        kept = cursor.execute("SELECT sealed, wrapped, capture_id FROM captures").fetchall()
    opened += [repr(recorded.event) for stream_id in streams for recorded in told.history(stream_id)]
    opened += [repr(captures.opened(*row, told.master_key)) for row in kept]

    missing = [name for name, canary in CANARIES.items() if not any(canary in text for text in opened)]
    assert missing == []


def test_every_table_that_holds_anything_was_searched(told: Ledger) -> None:
    searched = {column.split(".")[0] for column, _ in contents(told)}

    assert searched >= {"events", "current_status", "message_keys", "captures"}


def test_neither_secrets_nor_keys_are_stored(told: Ledger) -> None:
    deployment_secret = b"a deployment secret made up for tests"
    _, key = ApiKeys(told, deployment_secret).create("meta-main", Channel.WHATSAPP, Style.UNIFIED)
    secrets = [SECRET.encode(), deployment_secret, bytes(range(32)), key.encode(), key.removeprefix("slk_").encode()]

    found = [(column, secret) for column, value in contents(told) for secret in secrets if secret in value]

    assert found == []


def test_names_cannot_be_found_again_by_trying_candidates(told: Ledger) -> None:
    """Somebody who knows the number, and not the secret, derives other names than those that are stored."""
    guess = Names(b"another deployment secret, guessed")
    candidates = {
        guess.stream_id("meta-main", WAMID).bytes,
        guess.lookup("meta-main", "recipient", f"+{PHONE}"),
        guess.item_digest(json.dumps(STATUSES[0]).encode()),
    }

    stored = {value for _, value in contents(told)}

    assert candidates & stored == set()
