"""The page of operations: health, what comes in and is turned away, what is resolved, what is rebuilt."""

import re
from html import unescape

import pytest

from projections.registry import PROJECTIONS
from tests.http.callbacks import meta, meta_status, new_sid, new_wamid, send, twilio
from tests.plugins.service import ACCOUNTS, eventually
from tests.screens import people
from tests.screens.stories import a_contested_message, message_of
from tests.screens.test_failures import a_failure, look


def post(site, path, name="operator", **form):
    with people.signed_in(site, name) as client:
        form["csrf"] = people.token_of(client.get("/").text)
        return client.post(path, data=form)


def forms_of(page):
    """Return the fields of every form that resolves something."""
    forms = re.findall(r'<form method="post" action="/operations/resolve">(.*?)</form>', page, re.DOTALL)
    return [
        {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)}
        for form in forms
    ]


def test_what_comes_in_is_shown_with_its_verdict(site, whatsapp):
    wamid = new_wamid()
    send(site, meta(meta_status(wamid, "sent", 0)))

    page = look(site, "/operations")

    tail = page.partition("Coming in")[2]
    assert f'href="/messages/{message_of(whatsapp, wamid)}"' in tail
    assert "Advance" in tail


def test_a_request_that_is_turned_away_is_shown_with_its_cause_and_nothing_of_what_it_said(site):
    with site.another_client() as client:
        client.post(
            "/webhooks/meta-main", content=b'{"secret": "canary"}', headers={"content-type": "application/json"}
        )
        client.post("/webhooks/meta-main", content=b"canary", headers={"content-type": "text/canary"})

    eventually(lambda: "Turned away: 415" in look(site, "/operations"), "refusals are handed over")
    page = look(site, "/operations")
    assert "Turned away: 401" in page
    assert "No signature of this account" in page
    assert "canary" not in page


def test_health_is_that_of_the_report(site, whatsapp):
    page = look(site, "/operations", "auditor")

    for account in ("meta-main", "twilio-main"):
        assert f"<td>{account}<span" in page


def test_nobody_sees_what_comes_to_others_or_how_the_deployment_does(site, whatsapp):
    sid = new_sid()
    send(site, twilio(sid, "sent"))
    with site.another_client() as client:
        client.post("/webhooks/twilio-main", content=b"x", headers={"content-type": "text/plain"})
    eventually(lambda: "twilio-main" in look(site, "/operations").partition("Coming in")[2], "all is handed over")
    _, secret = site.new_key("meta-main", "whatsapp")

    for name, told in (("operator-of-one", people.PASSWORD), ("auditor-of-one", people.PASSWORD), ("", secret)):
        page = look(site, "/operations", name, told)
        assert "twilio" not in page
        assert "Read models" not in page
        assert "meta-main" in page


def test_an_item_is_resolved_and_shows_again_once_something_newer_happens(site, whatsapp):
    a_failure(site, whatsapp, 980_001)
    (told,) = [form for form in forms_of(look(site, "/operations")) if "980001" in form["item"]]

    assert post(site, "/operations/resolve", **told, why="It is in the catalogue now").status_code == 303
    assert not [form for form in forms_of(look(site, "/operations")) if form["item"] == told["item"]]

    a_failure(site, whatsapp, 980_001)
    eventually(lambda: told["item"] in [form["item"] for form in forms_of(look(site, "/operations"))], "it shows again")


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"why": ""}, 422, "why"),
        ({"why": "x" * 501}, 422, "why"),
        ({"seen_through": "yesterday"}, 400, "seen_through"),
        ({"seen_through": ""}, 400, "seen_through"),
        ({"item": "conflict:0"}, 404, ""),
        ({"account": "twilio-main"}, 404, ""),
    ],
)
def test_what_cannot_be_resolved_is_refused_by_name(site, whatsapp, change, status, field):
    a_contested_message(site, whatsapp)
    told = eventually(lambda: forms_of(look(site, "/operations")), "something needs attention")[0]

    answer = post(site, "/operations/resolve", **({**told, "why": "Looked at"} | change))

    assert answer.status_code == status
    assert field in answer.text


def test_nobody_resolves_what_others_have_to_look_at(site, whatsapp):
    send(site, twilio(new_sid(), "failed", ErrorCode="98765"))
    found = eventually(
        lambda: [form for form in forms_of(look(site, "/operations")) if form["account"] == "twilio-main"],
        "it is there",
    )

    assert post(site, "/operations/resolve", "operator-of-one", **found[0], why="Mine").status_code == 404
    assert found[0]["item"] in [form["item"] for form in forms_of(look(site, "/operations"))]


def state_of(page, projection):
    rows = re.findall(r"<tr>.*?</tr>", page.partition("Read models")[2], re.DOTALL)
    return next(row for row in rows if f"<td>{projection.replace('_', ' ')}<" in row)


@pytest.mark.parametrize("projection", [each.name for each in PROJECTIONS])
def test_a_rebuild_is_previewed_and_carried_out(site, whatsapp, projection):
    for dry_run, word in (("yes", "Previewed"), ("no", "Rebuilt")):
        assert post(site, "/operations/rebuild", projection=projection, dry_run=dry_run).status_code == 303
        eventually(lambda: word in state_of(look(site, "/operations"), projection), f"{word} {projection}")  # noqa: B023

        row = state_of(look(site, "/operations"), projection)
        assert re.search(r"\d rows equal, 0 (would change|changed), 0 only before, 0 only rebuilt", row), row
        assert "operator" in row


def test_a_read_model_that_there_is_not_is_refused_by_name(site):
    answer = post(site, "/operations/rebuild", projection="everything", dry_run="no")

    assert (answer.status_code, "projection" in answer.text) == (422, True)


def test_how_a_provider_is_asked_is_shown_with_its_budget_and_its_breaker(start_service, database_url):
    poll = {"account": "AC1", "secret": "a secret made up for tests", "rate": 2.5, "concurrency": 3}
    accounts = {**ACCOUNTS, "twilio-main": {**ACCOUNTS["twilio-main"], "poll": poll}}
    service = start_service(database_url, accounts=accounts, users=people.tables())
    page = eventually(lambda: look(service, "/operations"), "the page is there")
    assert "at most 2.5/s, 3 at once" in page
    assert "not asked" in page

    service.rows(
        "INSERT INTO poll_accounts (account, opened_at, why, open_until)"
        " VALUES ('twilio-main', now(), 'refused', now() + interval '1 hour')"
        " ON CONFLICT (account) DO UPDATE SET opened_at = now(), why = 'refused', open_until = excluded.open_until"
        " RETURNING 1"
    )

    assert 'open</span><span class="cell-sub">refused until' in look(service, "/operations")
