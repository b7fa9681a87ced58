"""The benchmark's arithmetic and its load: what it compares exists, and what it sends is what providers would send."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from ledger.domain.identity import Names
from ledger.ingest.accept import Intake
from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Channel, Headers, Secret, Webhook
from scripts.bench_suite import callbacks, figures, probes
from scripts.bench_suite.figures import FIGURES, Figure, evaluate


def an_intake() -> Intake:
    account = Account(
        name=callbacks.ACCOUNT,
        provider="meta",
        channel=Channel.WHATSAPP,
        secrets=(Secret(callbacks.SECRET),),
        public_url="http://127.0.0.1/",
    )
    return Intake(account, PROVIDERS["meta"], Names(b"a deployment secret"), keeps_items=True)


def a_webhook(body: bytes) -> Webhook:
    headers = Headers([(callbacks.SIGNATURE.encode(), f"sha256={callbacks.sign(body)}".encode())])
    return Webhook(method="POST", url="http://127.0.0.1/", query=b"", headers=headers, body=body)


def a_figure(*, limit: str | None = "theirs.rate", reach: float = 2, at_most: bool = False) -> Figure:
    return Figure(
        name="f", title="t", against="a", value="ours.rate", limit=limit, reach=reach, at_most=at_most
    )  # fmt: skip


def test_every_figure_compares_what_some_probe_measures() -> None:
    named = {probe for figure in FIGURES for probe in figure.probes}

    assert named <= set(probes.PROBES)
    assert set(probes.PROBES) <= named


def test_a_ratio_is_taken_within_each_round_and_the_median_counts() -> None:
    rounds = {"ours": [{"rate": 10.0}, {"rate": 30.0}, {"rate": 8.0}], "theirs": [{"rate": 5.0}, {"rate": 10.0}, {"rate": 8.0}]}  # fmt: skip  # noqa: E501

    result = evaluate(a_figure(), rounds)

    assert (2.0, 1.0, 3.0) == (result.ratio, result.low, result.high)
    assert result.reached


def test_a_figure_without_a_limit_is_judged_by_its_value() -> None:
    rounds: figures.Rounds = {"ours": [{"rate": 0.3}]}

    assert not evaluate(a_figure(limit=None, reach=0.1, at_most=True), rounds).reached
    assert evaluate(a_figure(limit=None, reach=0.3, at_most=True), rounds).reached


def test_callbacks_are_truly_signed_and_say_something_new_each() -> None:
    intake, seen = an_intake(), set()

    for body in callbacks.bodies(300, 7):
        accepted = intake.accept(a_webhook(body), datetime.now(UTC), "application/json")
        assert not accepted.job.captures
        seen |= {statement.command.key for statement in accepted.job.statements}

    assert 300 * 7 == len(seen)


def test_a_message_is_sent_before_it_is_delivered_and_one_in_ten_fails() -> None:
    words = Counter[str]()
    order: dict[str, list[str]] = {}
    intake = an_intake()

    for body in callbacks.bodies(5_800):
        for observation in intake.accept(a_webhook(body), datetime.now(UTC), "").parsed.observations:
            words[observation.provider_status] += 1
            order.setdefault(observation.reference, []).append(observation.provider_status)

    assert {"sent": 2_000, "delivered": 1_800, "failed": 200, "read": 1_800} == words
    assert {("sent", "delivered", "read"), ("sent", "failed")} == set(map(tuple, order.values()))


def test_a_file_of_requests_can_be_entered_at_any_request(tmp_path: Path) -> None:
    written = callbacks.write(tmp_path / "requests", 5, 2)

    content = written.file.read_bytes()
    for number in range(5):
        at = callbacks.offset_of(written, number)
        assert content[at + 8 : at + 14] == b"POST /"
    assert len(content) == callbacks.offset_of(written, 5)
