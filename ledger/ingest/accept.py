"""From an inbound request to a job: authenticate, parse, name, and hand to the writer.

Nothing here does input or output. Whatever is authentic becomes statements or captures; only what cannot be attributed
to an account is turned away.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ledger.domain.identity import Names, request_digest
from ledger.domain.message import Observe, Receipt
from ledger.domain.observation import Observation, Source
from ledger.ingest.writer import Job, Statement
from ledger.store.captures import Capture
from ledger.wire.contract import UNRECOGNISED, Account, Malformed, Parsed, Provider, Webhook


class Unauthentic(Exception):
    """The request is not signed by any of the account's secrets."""


class Accepted(msgspec.Struct, frozen=True):
    """An authentic request, read as far as it can be."""

    job: Job
    parsed: Parsed


class Intake:
    """Turns requests for one account into jobs. Immutable, safe to share between threads."""

    def __init__(self, account: Account, provider: Provider, names: Names, *, keeps_items: bool) -> None:
        self.account = account
        self.provider = provider
        self._names = names
        self._keeps_items = keeps_items

    def accept(self, webhook: Webhook, received_at: datetime, content_type: str) -> Accepted:
        """Return the job that a callback amounts to. Raises Unauthentic, and nothing else."""
        if not self.provider.authenticate(webhook, self.account):
            raise Unauthentic(self.account.name)
        try:
            parsed = self.provider.parse(webhook, self.account)
        except Malformed as malformed:
            parsed = Parsed()
            captures = [self._capture(str(malformed), webhook.content, content_type, received_at)]
        else:
            captures = [
                self._capture(unreadable.reason, unreadable.item, content_type, received_at)
                for unreadable in parsed.unreadable
            ]
        receipt = self.receipt(Source.CALLBACK, received_at, webhook.content)
        statements = [self.statement(observation, receipt) for observation in parsed.observations]
        return Accepted(Job(statements, captures), parsed)

    def set_aside(self, webhook: Webhook, reason: str, received_at: datetime, content_type: str) -> Job:
        """Return a job that only keeps the request: it is authentic and cannot be recorded as it is."""
        return Job((), [self._capture(reason, webhook.content, content_type, received_at)])

    def receipt(self, source: Source, received_at: datetime, body: bytes) -> Receipt:
        account = self.account
        return Receipt(
            account=account.name,
            provider=account.provider,
            channel=account.channel,
            source=source,
            received_at=received_at,
            request_digest=request_digest(body),
            keeps_items=self._keeps_items,
            delivery_wins=account.conflicts == "delivery-wins",
        )

    def statement(self, observation: Observation, receipt: Receipt) -> Statement:
        names = self._names
        return Statement(
            names.stream_id(receipt.account, observation.reference),
            Observe(
                observation=observation,
                key=names.observation(
                    receipt.source, observation, "" if observation.part is None else f"{observation.part}"
                ),
                item_digest=names.item_digest(observation.item),
                recognised=observation.claim is not UNRECOGNISED,
                receipt=receipt,
            ),
        )

    def _capture(self, reason: str, content: bytes, content_type: str, received_at: datetime) -> Capture:
        return Capture(
            account=self.account.name,
            provider=self.account.provider,
            reason=reason,
            content=content,
            content_type=content_type,
            received_at=received_at,
        )


def intakes(
    accounts: Mapping[str, Account], providers: Mapping[str, Provider], names: Names, *, keeps_items: bool
) -> dict[str, Intake]:
    return {
        name: Intake(account, providers[account.provider], names, keeps_items=keeps_items)
        for name, account in accounts.items()
    }
