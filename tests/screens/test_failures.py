"""The pages of failures: what is grouped, what a group leads to, and nothing of others."""

import re
from html import unescape

import pytest

from tests.http.callbacks import meta, meta_failure, meta_status, new_sid, new_wamid, send, twilio
from tests.plugins.service import eventually
from tests.screens import people
from tests.screens.stories import message_of


@pytest.fixture(scope="module")
def whatsapp(site):
    return site.api("meta-main", "whatsapp")


@pytest.fixture(scope="module")
def sms(site):
    return site.api("twilio-main", "sms")


def look(site, path, name="operator", secret=people.PASSWORD, status=200):
    with people.signed_in(site, name, secret) as client:
        answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def a_failure(site, api, code):
    """Fail a message for a code of its own, and wait until the reports have it."""
    wamid = new_wamid()
    failed = meta_status(wamid, "failed", 6, errors=[{"code": code, "title": "Made up"}])
    assert send(site, meta(meta_status(wamid, "sent", 0))).status_code == 200
    assert send(site, meta(failed)).status_code == 200
    message_id = message_of(api, wamid)
    eventually(lambda: f">{code}<" in look(site, "/failures"), "the failure is counted")
    return message_id


def group_of(page, code):
    """Return the address of a group, by the code that stands in it."""
    rows = re.findall(r'<tr>\s*<td class="cell-reason">.*?</tr>', page, re.DOTALL)
    (row,) = [row for row in rows if f">{code}<" in row]
    return unescape(re.findall(r'href="([^"]+)"', row)[0])


def test_a_failure_is_grouped_and_leads_to_its_messages(site, whatsapp):
    message_id = a_failure(site, whatsapp, 970_001)

    page = look(site, "/failures")
    reason = look(site, group_of(page, 970_001))

    assert "Not in the catalogue" in page
    assert "New today" in page
    assert f'href="/messages/{message_id}"' in reason
    assert "What to do" in reason
    assert "1 failure" in reason


def test_a_code_that_no_table_knows_is_in_the_inbox_of_those_who_may_see_it(site, whatsapp):
    a_failure(site, whatsapp, 970_002)

    inbox = look(site, "/failures").partition("Not known to any table")[2]

    assert "970002" in inbox
    assert "Not known to any table" not in look(site, "/failures", "viewer")


def test_messages_of_a_group_come_in_pages(site, whatsapp):
    ids = [a_failure(site, whatsapp, 970_003)]
    for _ in range(26):
        wamid = new_wamid()
        send(site, meta(meta_status(wamid, "failed", 6, errors=[{"code": 970_003, "title": "Made up"}])))
        ids.append(message_of(whatsapp, wamid))
    group = group_of(look(site, "/failures"), 970_003)
    eventually(lambda: "27 failures" in look(site, group), "all are counted")
    first_page = look(site, group)

    older = unescape(re.findall(r'href="([^"]+)" rel="next"', first_page)[0])
    second_page = look(site, older)

    shown = [
        [int(found) for found in re.findall(r'href="/messages/(\d+)"', page)] for page in (first_page, second_page)
    ]
    assert [len(page) for page in shown] == [25, 2]
    assert sorted(shown[0] + shown[1]) == sorted(ids)


def test_nobody_sees_failures_of_accounts_of_others(site, whatsapp, sms):
    a_failure(site, whatsapp, 970_004)
    send(site, twilio(new_sid(), "undelivered", ErrorCode="30003"))
    eventually(lambda: ">30003<" in look(site, "/failures"), "the failure is counted")
    group = group_of(look(site, "/failures"), "30003")
    _, secret = site.new_key("meta-main", "whatsapp")

    for name, told in (("viewer-of-one", people.PASSWORD), ("", secret)):
        page = look(site, "/failures", name, told)
        assert ">970004<" in page
        assert "30003" not in page
        assert "twilio-main" not in page
        assert "Nothing failed for this reason" in look(site, group, name, told)
        assert "30003" not in look(site, "/failures?account=twilio-main&channel=sms", name, told)


def test_the_range_narrows_what_is_counted(site, whatsapp):
    a_failure(site, whatsapp, 970_005)

    assert ">970005<" in look(site, "/failures?range=24h&account=meta-main&channel=whatsapp&provider=meta", "viewer")
    for narrower in ("channel=sms", "provider=twilio", "account=twilio-main", "since=2020-01-01&until=2020-01-31"):
        assert ">970005<" not in look(site, f"/failures?{narrower}", "viewer")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("range=8d", "range"),
        ("range=7d&range=30d", "range"),
        ("since=yesterday", "since"),
        ("until=2026-02-30", "until"),
        ("since=2026-11-20&until=2026-11-01", "until"),
        ("since=0001-01-01", "since"),
        ("until=9999-12-31", "until"),
        ("time_zone=Mars/Olympus", "time_zone"),
        ("time_zone=../../etc/passwd", "time_zone"),
        ("channel=fax", "channel"),
        ("other=1", "other"),
        ("provider=%00", "provider"),
    ],
)
@pytest.mark.parametrize("path", ["/failures", "/reports", "/reports/delivery.csv"])
def test_what_cannot_be_asked_is_named(site, path, query, field):
    page = look(site, f"{path}?{query}", status=400)

    assert field in unescape(page)


def test_a_cursor_that_is_none_is_refused(site, whatsapp):
    a_failure(site, whatsapp, 970_006)
    group = group_of(look(site, "/failures"), 970_006)

    assert "cursor" in look(site, f"{group}&cursor=nonsense", status=400)


def test_a_reason_that_nothing_failed_for_says_so(site):
    page = look(site, "/failures/reason?channel=sms&provider=twilio&category=content&code=1&title=None")

    assert "Nothing failed for this reason" in page


def test_what_a_failed_message_tells_is_the_same_in_the_report_of_the_api(site, whatsapp):
    send(site, meta(meta_failure(new_wamid())))
    a_failure(site, whatsapp, 970_007)

    reported = whatsapp.get("/v1/reports/failures", params={"group_by": "channel"}).json()["items"]
    page = look(site, "/failures?account=meta-main&channel=whatsapp")

    for item in reported:
        row = page[page.index(f">{item['code']}<") :].partition("</tr>")[0]
        assert f"<strong>{item['failures']}</strong>" in row
