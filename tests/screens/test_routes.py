"""The table of pages: what each needs is enforced, and every answer carries what protects it."""

import pytest

from ledger.screens.access import PERMISSIONS, Permission, Role
from tests.screens import people
from tests.screens.stories import a_read_message
from tests.screens.walk import SCREENS, path_of

NEEDED = [screen for screen in SCREENS if screen.needs is not Permission.SIGN_IN]
IDS = [f"{screen.method} {screen.path}" for screen in NEEDED]


@pytest.fixture(scope="module")
def message_id(site):
    return a_read_message(site, site.api("meta-main", "whatsapp"))


def ask(client, screen, path, **options):
    """Ask for a page, and do not wait for the end of one that has none."""
    with client.stream(screen.method, path, **options) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
        return answer


@pytest.mark.parametrize("screen", NEEDED, ids=IDS)
def test_whoever_is_not_signed_in_sees_nothing(site, screen, message_id):
    with people.browser(site) as client:
        answer = ask(client, screen, path_of(screen, message_id), data={} if screen.method == "POST" else None)

    assert answer.status_code in ({303} if screen.method == "GET" else {403, 415})
    if screen.method == "GET":
        assert answer.headers["location"].startswith("/sign-in?next=%2F")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("screen", NEEDED, ids=IDS)
def test_a_role_may_what_the_table_says_and_nothing_else(site, screen, role, message_id):
    path = path_of(screen, message_id)
    with people.signed_in(site, role.value) as client:
        data = {"csrf": people.token_of(client.get("/").text)} if screen.method == "POST" else None
        answer = ask(client, screen, path, data=data)

    if screen.needs in PERMISSIONS[role]:
        assert answer.status_code != 403
    else:
        assert answer.status_code == 403
        assert "Your role does not allow this" in answer.text


@pytest.mark.parametrize("screen", [each for each in NEEDED if each.method == "POST"] or [None])
def test_a_write_of_any_page_needs_its_token(site, screen, message_id):
    if screen is None:  # signing out is tried elsewhere
        return
    with people.signed_in(site, "operator") as client:
        assert ask(client, screen, path_of(screen, message_id), data={"csrf": "0" * 64}).status_code == 403


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: f"{screen.method} {screen.path}")
def test_every_page_carries_the_policy(site, screen, message_id):
    with people.signed_in(site, "operator") as client:
        answer = ask(client, screen, path_of(screen, message_id), data={"a": "b"} if screen.method == "POST" else None)

    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-request-id" in answer.headers


def test_pages_hold_no_inline_script_or_style(site, message_id):
    with people.signed_in(site, "operator") as client:
        for path in (
            "/",
            f"/messages/{message_id}",
            "/messages/0",
            f"/messages/{message_id}/proof",
            "/failures",
            "/reports",
        ):
            text = client.get(path).text
            assert " style=" not in text
            assert "<style" not in text
            assert " onclick" not in text
            assert text.count("<script") == text.count('<script src="/static/')


def test_static_files_may_be_kept_for_ever_and_others_are_not_there(site):
    with people.browser(site) as client:
        page = client.get("/sign-in").text
        address = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        answer = client.get(address)

        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith("text/css")
        for path in ("/static/screens.css", "/static/..%2frouting.py", "/static/VENDORED.md", address[:-8] + "0.css"):
            assert client.get(path).status_code == 404


def test_a_page_that_is_asked_for_by_htmx_is_sent_to_sign_in_whole(site):
    with people.browser(site) as client:
        answer = client.get("/?q=a", headers={"hx-request": "true", "hx-current-url": f"{site.url}/?q=b"})

    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/sign-in?next=%2F%3Fq%3Db")
