"""Authentic requests, or items of them, that could not be read: sealed, kept for a later adapter."""

from datetime import datetime
from uuid import UUID

import msgspec

from ledger.domain.identity import Names
from ledger.store.rows import CaptureRow
from ledger.store.sealing import DataKey, MasterKey, place


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    provider: str
    reason: str  #: names the place and the problem; safe to show
    content: bytes  #: verbatim
    content_type: str
    received_at: datetime

    def row(self, names: Names, master_key: MasterKey) -> CaptureRow:
        capture_id = names.stream_id(self.account, f"capture:{names.content_digest(self.content).hex()}")
        key = DataKey.generate()
        body = msgspec.msgpack.encode((self.content_type, self.content))
        return CaptureRow(
            capture_id=capture_id,
            received_at=self.received_at,
            account=self.account,
            provider=self.provider,
            reason=self.reason,
            wrapped=master_key.wrap(key, capture_id),
            sealed=key.seal(body, place(capture_id, 1, b"capture")),
        )


def opened(sealed: bytes, wrapped: bytes, capture_id: UUID, master_key: MasterKey) -> tuple[str, bytes]:
    """Return content type and content of a stored capture."""
    body = master_key.unwrap(wrapped, capture_id).open(sealed, place(capture_id, 1, b"capture"))
    content_type, content = msgspec.msgpack.decode(body, type=tuple[str, bytes])
    return content_type, content
