"""Checkpoints as they leave the service: at an endpoint, in a file, and to whoever subscribes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import environment, main
from ledger.http.receivers import REST_SECONDS, Answer, Receivers
from ledger.proof import notes
from ledger.proof.notes import PublicKey
from ledger.wire.contract import Secret
from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.http.witness import NAME, Witness, serving
from tests.plugins.ledger import Pen
from tests.plugins.service import Service, Starter, eventually
from tests.store.evidence import KEY, signing, write


@pytest.fixture
def witness() -> Iterator[Witness]:
    with serving(Witness(KEY)) as running:
        yield running


def checkpoint(service: Service, position: int) -> str:
    """Return the note of partition 0 once it covers a position."""

    def newest() -> str | None:
        answer = service.client().get("/v1/checkpoints/0")
        covers = answer.status_code == 200 and int(answer.text.split("\n")[1]) >= position
        return answer.text if covers else None

    return str(eventually(newest, f"a checkpoint of position {position}"))


def test_a_running_service_signs_serves_keeps_and_sends_what_is_recorded(
    start_service: Starter, database_url: str, tmp_path: Path
) -> None:
    settings = environment.with_secrets(
        main.read(
            {
                "LEDGER_DATABASE_URL": database_url,
                "LEDGER_MASTER_KEY": "A" * 43 + "=",
                "LEDGER_DEPLOYMENT_SECRET": "B" * 43 + "=",
            }
        )
    )
    witness = Witness(environment.signer(settings).public_key("status-ledger"))
    place = tmp_path / "held elsewhere.txt"
    with serving(witness):
        service = start_service(
            database_url,
            deployment_secret="B" * 43 + "=",
            master_key="A" * 43 + "=",
            checkpoints=str(place),
            checkpoint_receivers=witness.url,
        )
        send(service, meta(meta_status(new_wamid(), "sent"), meta_status(new_wamid(), "sent")))

        note = checkpoint(service, 2)

        (item,) = service.client().get("/v1/checkpoints").json()["items"]
        told = notes.checkpoint(notes.opened(note, [PublicKey(item["public_key"])]))
        assert (item["note"], item["partition"], item["position"], item["hash"]) == (note, 0, 2, told.hash.hex())
        assert notes.several(place.read_text("utf-8"))[-1] == note
        eventually(lambda: witness.taken == [2], "the witness has taken it")


@pytest.mark.parametrize("partition", ["1", "-1", "x", "0000", "%D9%A0"])
def test_a_partition_that_is_none_has_no_checkpoint(service: Service, partition: str) -> None:
    answer = service.client().get(f"/v1/checkpoints/{partition}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# To whoever subscribes ------------------------------------------------------------------------------------------------


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_witness_gets_every_step_proved_and_its_signature_is_kept(
    database_url: str, pen: Pen, tmp_path: Path, witness: Witness
) -> None:
    receivers = Receivers([Secret(witness.url)])
    with signing(database_url, tmp_path / "checkpoints") as checkpoints:
        for messages in (1, 100, 7):
            write(pen, messages=messages)
            checkpoints.due(now=True)
            receivers.tell(checkpoints, 1)
            receivers.tell(checkpoints, 1)  # nothing is new

        assert witness.taken == [3, 303, 324]
        rows = checkpoints._connection.execute("SELECT position, answer FROM checkpoint_deliveries").fetchall()
        note = checkpoints.newest(0)

    ((position, answer),) = rows
    assert note is not None
    assert position == 324
    assert notes.opened(note + answer, [witness.signer.public_key(NAME)]) == notes.split(note)[0]


def test_a_receiver_that_knows_more_or_less_than_we_think_is_told_from_where_it_is(
    database_url: str, pen: Pen, tmp_path: Path, witness: Witness
) -> None:
    with signing(database_url, tmp_path / "checkpoints") as checkpoints:
        for _ in range(3):
            write(pen, messages=2)
            checkpoints.due(now=True)
            Receivers([Secret(witness.url)]).tell(checkpoints, 1)
            checkpoints._connection.execute("TRUNCATE checkpoint_deliveries")

    assert witness.taken == [6, 12, 18]


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500, 503])
def test_a_receiver_that_refuses_is_left_alone_and_then_told_all_at_once(
    database_url: str, pen: Pen, tmp_path: Path, witness: Witness, status: int
) -> None:
    clock = Clock()
    receivers = Receivers([Secret(witness.url)], now=clock)
    with signing(database_url, tmp_path / "checkpoints") as checkpoints:
        for _ in range(2):
            write(pen, messages=1)
            checkpoints.due(now=True)
            witness.answers = [status] if not witness.taken else []
            receivers.tell(checkpoints, 1)
        assert witness.taken == []
        witness.answers = []
        clock.now += REST_SECONDS + 1
        receivers.tell(checkpoints, 1)

    assert witness.taken == [6]


def test_one_that_is_down_does_not_keep_others_from_theirs(
    database_url: str, pen: Pen, tmp_path: Path, witness: Witness
) -> None:
    receivers = Receivers([Secret("http://127.0.0.1:1"), Secret(witness.url)])
    write(pen, messages=1)
    with signing(database_url, tmp_path / "checkpoints") as checkpoints:
        checkpoints.due(now=True)
        receivers.tell(checkpoints, 1)

    assert witness.taken == [3]


def test_a_receiver_that_makes_up_sizes_does_not_keep_us_busy(database_url: str, pen: Pen, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def post(_url: str, body: bytes) -> Answer:
        asked.append(body)
        return Answer(409, f"{len(asked)}\n".encode())

    write(pen, messages=3)
    with signing(database_url, tmp_path / "checkpoints") as checkpoints:
        checkpoints.due(now=True)
        Receivers([Secret("http://receiver.example")], post=post).tell(checkpoints, 1)

    assert len(asked) == 2
