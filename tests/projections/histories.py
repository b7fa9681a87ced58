"""Random histories of a few messages: what providers and the sender say, in any order, written to a real ledger."""

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from ledger.domain.message import AlreadyLinked, Correct, NotInConflict
from ledger.domain.observation import Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status
from ledger.ingest.register import LocalFailure
from ledger.ingest.writer import Job, Statement
from tests.builders import a_claim, a_receipt, at
from tests.ingest.erasing import an_eraser
from tests.plugins.ledger import Pen
from tests.statements import a_registration, a_sender, says, stream_of

REFERENCES = ("provider-1", "provider-2", "provider-3", "provider-4")
OWN = (b"registration-001", b"registration-002")

said = st.fixed_dictionaries(
    {
        "do": st.just("says"),
        "reference": st.sampled_from(REFERENCES),
        "status": st.sampled_from([*Status, Status.FAILED, Status.DELIVERED, Status.READ]),
        "kind": st.sampled_from(FailureKind),
        "minute": st.none() | st.integers(0, 200),
        "late": st.integers(-5, 120),
        "code": st.sampled_from([None, "30003", "30005", "999999"]),
        "text": st.sampled_from([None, "blocked", "no route"]),
        "closes": st.booleans(),
        "source": st.sampled_from([Source.CALLBACK, Source.CALLBACK, Source.POLL]),
        "recipient": st.sampled_from([None, "+15550100", "+447700900100"]),
        "recognised": st.booleans(),
        "part": st.none() | st.tuples(st.integers(1, 2), st.just(2)),
    }
)
actions = st.one_of(
    said,
    said,
    said,
    said,
    st.fixed_dictionaries({"do": st.just("register"), "own": st.sampled_from(OWN), "sent": st.booleans()}),
    st.fixed_dictionaries({"do": st.just("fail"), "own": st.sampled_from(OWN)}),
    st.fixed_dictionaries(
        {"do": st.just("hand_off"), "own": st.sampled_from(OWN), "reference": st.sampled_from(REFERENCES)}
    ),
    st.fixed_dictionaries(
        {
            "do": st.just("correct"),
            "reference": st.sampled_from(REFERENCES),
            "to": st.sampled_from(["delivered", "failed"]),
        }
    ),
    st.fixed_dictionaries({"do": st.just("erase"), "reference": st.sampled_from(REFERENCES)}),
    st.fixed_dictionaries({"do": st.just("follow"), "page": st.integers(1, 9)}),
)
histories = st.lists(actions, min_size=1, max_size=40)


class Told:
    """Writes what happens in an account of its own. Provider `twilio`, so that some of the codes are known."""

    def __init__(self, pen: Pen, account: str, list_: Path) -> None:
        """`list_`: where erasures are listed."""
        self._pen = pen
        self._list = list_
        self._account = account
        self._own: dict[bytes, UUID] = {}
        self._clock = 0.0

    def do(self, action: dict[str, Any]) -> None:
        self._clock += 1
        match action["do"]:
            case "says":
                self._pen.write(self._says(action))
            case "register":
                told = {"sent_at": at(self._clock)} if action["sent"] else {}
                registration, sender = a_registration(**told), a_sender(self._account, "twilio")
                stream_id = sender.stream_of(registration, action["own"])
                self._pen.do(sender.register(stream_id, registration, action["own"], at(self._clock)))
                self._own[action["own"]] = stream_id
            case "fail" if action["own"] in self._own:
                sender = a_sender(self._account, "twilio")
                failure = LocalFailure("Your template was not found.", None)
                self._pen.do(sender.fail(self._own[action["own"]], Channel.SMS, failure, at(self._clock)))
            case "hand_off" if action["own"] in self._own:
                registration = a_registration(provider_message_id=action["reference"])
                sender = a_sender(self._account, "twilio")
                with suppress(AlreadyLinked):
                    job, _ = sender.hand_off(self._own[action["own"]], 1, registration, at(self._clock))
                    self._pen.do(job)
            case "erase":
                stream_id = stream_of(action["reference"], self._account)
                (loaded,) = self._pen.ledger.load([stream_id])
                if loaded.version:
                    eraser = an_eraser(self._pen.ledger, self._list)
                    eraser.erase(eraser.look([stream_id]), by="privacy-officer", why="asked")
            case "correct":
                command = Correct(
                    to=Outcome(action["to"]),
                    by="operator-1",
                    why="asked",
                    relied_on=(),
                    receipt=a_receipt(account=self._account, received_at=at(self._clock)),
                )
                with suppress(NotInConflict):
                    self._pen.do(Job([Statement(stream_of(action["reference"], self._account), command)]))

    def _says(self, action: dict[str, Any]) -> Statement:
        status, part = action["status"], action["part"]
        minute = action["minute"]
        word = "-".join(str(action[name]) for name in ("status", "kind", "closes", "recognised", "text"))
        return says(
            a_claim(status, action["kind"] if status is Status.FAILED else None, closes=action["closes"]),
            minute,
            reference=action["reference"],
            account=self._account,
            provider="twilio",
            source=action["source"],
            received=self._clock + action["late"],
            provider_status=word,
            error_code=action["code"] if status is Status.FAILED else None,
            error_text=action["text"] if status is Status.FAILED else None,
            recipient=action["recipient"],
            **({"part": part[0], "parts": part[1]} if part else {}),
        )
