"""Signed notes and checkpoints, against the examples of the specification and against forgery."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.proof import notes
from ledger.proof.notes import Checkpoint, NoteBroken, NoteUntrusted, PublicKey, Signer
from ledger.wire.contract import Secret

#: The pair of the Go package that the format comes from (golang.org/x/mod/sumdb/note, its documentation).
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNER = Signer(Secret(bytes(range(32))))
LOG = "status-ledger/0123"
CHECKPOINT = Checkpoint(
    log=LOG,
    partition=3,
    position=4711,
    root=bytes(range(32)),
    hash=bytes(range(32, 64)),
    recorded_at=datetime(2026, 11, 21, 12, 0, 2, 871233, tzinfo=UTC),
)
KEY = SIGNER.public_key(CHECKPOINT.origin)
NOTE = SIGNER.sign(CHECKPOINT.text(), CHECKPOINT.origin)


def test_a_note_of_the_package_that_the_format_comes_from_is_verified() -> None:
    text = notes.opened(GO_NOTE, [PublicKey(GO_KEY)])

    assert text == GO_NOTE.rpartition("\n\n")[0] + "\n"


def test_a_public_key_is_written_as_it_is_read() -> None:
    assert str(PublicKey(GO_KEY)) == GO_KEY
    assert str(PublicKey(str(KEY))) == str(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AQ==",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("PeterNeumann", "PeterN"),
        GO_KEY.replace("+AR", "+Ag"),
        GO_KEY + "=",
        " +c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(NoteBroken):
        PublicKey(text)


def test_a_checkpoint_states_partition_position_root_hash_and_time() -> None:
    lines = NOTE.split("\n")

    assert lines[0] == "status-ledger/0123/p3"
    assert lines[1] == "4711"
    assert base64.b64decode(lines[2]) == CHECKPOINT.root
    assert lines[3] == "chain " + base64.b64encode(CHECKPOINT.hash).decode()
    assert lines[4] == "time 2026-11-21T12:00:02.871233Z"
    assert lines[6].startswith("— status-ledger/0123/p3 ")
    assert notes.checkpoint(notes.opened(NOTE, [KEY])) == CHECKPOINT


def test_one_key_is_trusted_for_every_partition() -> None:
    key = SIGNER.public_key("status-ledger")

    assert notes.checkpoint(notes.opened(NOTE, [key])) == CHECKPOINT


def test_signatures_of_others_are_passed_over() -> None:
    cosigned = NOTE + "— witness.example/w1 " + base64.b64encode(bytes(76)).decode() + "\n"

    assert notes.opened(cosigned, [KEY]) == CHECKPOINT.text()


def test_without_a_trusted_signature_nothing_is_believed() -> None:
    other = Signer(Secret(bytes(32))).public_key(CHECKPOINT.origin)

    with pytest.raises(NoteUntrusted):
        notes.opened(NOTE, [other])
    with pytest.raises(NoteUntrusted):
        notes.opened(NOTE, [])


@given(at=st.integers(0, len(CHECKPOINT.text()) - 2), character=st.characters(codec="utf-8", exclude_categories=("C",)))
def test_an_altered_text_is_not_what_was_signed(at: int, character: str) -> None:
    forged = NOTE[:at] + character + NOTE[at + 1 :]
    if forged == NOTE:
        return

    with pytest.raises(NoteBroken):
        notes.opened(forged, [KEY])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name",
        "text\n\n— name ====\n",
        "text\n\n— name AAAA\n",
        "text\n\n-- name AAAAAAAA\n",
        "text\n\n— na+me AAAAAAAA\n",
        "te\x00xt\n\n— name AAAAAAAA\n",
        "text\n\n" + "— name AAAAAAAA\n" * 65,
        "x" * 5_000_000,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteBroken):
        notes.split(note)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (0, "status-ledger/0123"),
        (0, ""),
        (1, "04711"),
        (1, "-1"),
        (1, "٤٧١١"),
        (2, "AAAA"),
        (3, "chain AAAA"),
        (3, "hash " + base64.b64encode(bytes(32)).decode()),
        (4, "time 2026-11-21T12:00:02"),
        (4, "time yesterday"),
        (5, "more\n"),
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(line: int, instead: str) -> None:
    lines = CHECKPOINT.text().split("\n")
    lines[line] = instead

    with pytest.raises(NoteBroken, match="not a checkpoint"):
        notes.checkpoint("\n".join(lines))


def test_a_file_of_checkpoints_is_read_up_to_what_was_cut_short() -> None:
    cosigned = NOTE + "— witness.example/w1 " + base64.b64encode(bytes(76)).decode() + "\n"
    file = NOTE + cosigned + NOTE

    assert notes.several(file) == [NOTE, cosigned, NOTE]
    for cut in range(1, len(NOTE)):
        assert notes.several(file[:-cut]) == [NOTE, cosigned], cut
    assert notes.several("") == []


@pytest.mark.parametrize("text", ["no line feed", "a tab\t\n", "", "null\x00\n"])
def test_only_lines_of_text_are_signed(text: str) -> None:
    with pytest.raises(ValueError, match="lines of text"):
        SIGNER.sign(text, "name")


def test_a_signer_shows_nothing_of_its_key() -> None:
    assert repr(SIGNER) == "Signer('***')"
    with pytest.raises(ValueError, match="32"):
        Signer(Secret(bytes(31)))
