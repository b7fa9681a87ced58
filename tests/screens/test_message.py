"""The page of one message, as markup."""

import re
from datetime import datetime, timedelta
from html import unescape

import pytest

from ledger.domain.reasons import Retry, RetryClass
from ledger.screens.failure_card import when
from tests.http.callbacks import instant, meta, meta_status, new_wamid, send
from tests.screens import people
from tests.screens.stories import (
    HOSTILE,
    a_contested_message,
    a_failed_message,
    a_hostile_message,
    a_read_message,
    message_of,
)


def look(site, path, name="auditor"):
    with people.signed_in(site, name) as client:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def words(page):
    """Return a page's text without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_everything_that_was_said_is_shown_with_its_verdict_and_three_clocks(site, whatsapp):
    message_id = a_read_message(site, whatsapp)

    page = look(site, f"/messages/{message_id}")

    assert re.findall(r"badge verdict-(\w+)", page) == ["advance", "advance", "late", "repeat"]
    assert page.count("<dt>Happened</dt>") == page.count("<dt>Received</dt>") == page.count("<dt>Recorded</dt>") == 4
    assert instant(95) in page
    assert page.count('class="observation grey"') == 2
    assert "it arrived late and only fills in its time" in words(page)
    assert "It may still become deleted." in words(page)


def test_the_failure_card_says_what_where_who_and_when(site, whatsapp):
    page = words(look(site, f"/messages/{a_failed_message(site, whatsapp)}"))

    for told in (
        "131026",
        "The number is not on WhatsApp.",
        "Where The provider",
        "What to do",
        "Who Nobody can",
        "Never",
    ):
        assert told in page


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        (Retry(RetryClass.TRANSIENT, 0), "Now"),
        (Retry(RetryClass.TRANSIENT, 30, 60), "In 30 s to 1 min"),
        (Retry(RetryClass.TRANSIENT, 3_600), "After 1 h"),
        (Retry(RetryClass.RECIPIENT_PERMANENT), "Never this way. Another channel may work"),
        (Retry(RetryClass.FIX_INPUT), "Once that is done, and not before"),
        (Retry(RetryClass.UNKNOWN), "Not known"),
    ],
)
def test_a_card_says_when_to_try_again(retry, said):
    assert when(retry) == said


def test_both_sides_of_a_conflict_are_shown(site, whatsapp):
    page = words(look(site, f"/messages/{a_contested_message(site, whatsapp)}"))

    assert "Two claims contradict each other." in page
    assert "Delivered: delivered by callback" in page
    assert "Failed: failed by callback" in page


def test_a_page_is_rewound_to_what_was_on_record(site, whatsapp):
    wamid = new_wamid()
    send(site, meta(meta_status(wamid, "sent", 0)))
    message_id = message_of(whatsapp, wamid)
    (first,) = whatsapp.get(f"/v1/messages/{message_id}/history").json()["items"]
    send(site, meta(meta_status(wamid, "delivered", 5)))

    then = look(site, f"/messages/{message_id}?as_of={first['recorded_at']}")
    earlier = (datetime.fromisoformat(first["recorded_at"]) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    before = look(site, f"/messages/{message_id}?as_of={earlier}")
    now = look(site, f"/messages/{message_id}")

    def state(page):
        return page.count('data-row="event-'), re.search(r'status-large"><span class="status status-(\w+)', page)[1]

    assert state(then) == (1, "sent")
    assert state(before) == (0, "unknown")
    assert state(now) == (2, "delivered")
    assert "data-stream" not in then
    assert "data-stream" in now


def test_evidence_is_for_those_who_may_see_it(site, whatsapp):
    message_id = a_read_message(site, whatsapp)

    assert "Evidence" not in words(look(site, f"/messages/{message_id}", "viewer"))
    page = words(look(site, f"/messages/{message_id}", "auditor"))
    assert '"status":"delivered"' in page.replace(": ", ":")


def test_hostile_text_is_shown_and_never_markup(site, whatsapp):
    message_id = a_hostile_message(site, whatsapp)

    for page in (look(site, f"/messages/{message_id}"), look(site, "/")):
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert "<svg onload" not in page
        assert "49" not in re.findall(r"alert\(2\)&lt;/script&gt;(\S+?)&", page)
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert HOSTILE in unescape(look(site, f"/messages/{message_id}"))


@pytest.mark.parametrize(
    "path", ["/messages/0", "/messages/99999999", "/messages/abc", "/messages/99999999999999999999"]
)
def test_what_is_no_message_is_not_found(site, path):
    with people.signed_in(site, "viewer") as client:
        answer = client.get(path)

    assert answer.status_code == 404
    assert "There is no such thing here" in answer.text
