"""Signing in and out, sessions, and writes that none of our pages has sent."""

import base64
import json
import re

import pytest

from ledger.screens.sign_in import ATTEMPTS_PER_NAME, local_path
from tests.screens.people import PASSWORD, browser, sign_in, signed_in, tables, token_of


def cookie(answer):
    (told,) = answer.headers.get_list("set-cookie")
    return told


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_back(site):
    with browser(site) as client:
        sent = client.get("/?q=status:failed")
        assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?next=%2F%3Fq%3Dstatus%3Afailed")

        form = client.get(sent.headers["location"])
        told = {"csrf": token_of(form.text), "next": "/?q=status:failed", "name": "viewer", "secret": PASSWORD}
        back = client.post("/sign-in", data=told)

    assert (back.status_code, back.headers["location"]) == (303, "/?q=status:failed")


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(site):
    with browser(site) as client:
        told = cookie(sign_in(client, name="viewer"))

    assert re.fullmatch(r"ledger=[^;]+; HttpOnly; Max-Age=43200; Path=/; SameSite=lax", told)


def test_the_cookie_is_for_secure_connections_only_where_there_are_any(start_service, database_url):
    service = start_service(database_url, users=tables(), public_url="https://status.example.com")

    with browser(service) as client:
        told = cookie(client.get("/sign-in"))

    assert told.startswith("__Host-ledger=")
    assert "; Secure" in told


@pytest.mark.parametrize("name", sorted(tables()))
def test_a_configured_user_signs_in(site, name):
    with signed_in(site, name) as client:
        page = client.get("/")

    assert page.status_code == 200
    assert f">{name}<" in page.text


def test_a_key_signs_in_and_its_session_ends_with_it(site):
    key, secret = site.new_key("meta-main", "whatsapp")

    with signed_in(site, secret=secret) as client:
        assert key.id in client.get("/").text
        site.parts.keys.revoke(key.id)
        assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("viewer", "not my password"),
        ("nobody", PASSWORD),
        ("", "slk_wrong"),
        ("", ""),
        ("viewer", ""),
        ("viewer", "x" * 1_025),
    ],
)
def test_what_does_not_match_is_refused_in_the_same_words(site, name, secret):
    with browser(site) as client:
        answer = sign_in(client, name=name, secret=secret)

        assert answer.status_code == 401
        assert "That did not match." in answer.text
        assert "set-cookie" not in answer.headers
        if secret:
            assert secret not in answer.text
        assert client.get("/").status_code == 303


def test_a_revoked_key_does_not_sign_in(site):
    key, secret = site.new_key("meta-main", "whatsapp")
    site.parts.keys.revoke(key.id)

    with browser(site) as client:
        assert sign_in(client, secret=secret).status_code == 401


def test_attempts_are_limited(site):
    with browser(site) as client:
        token = token_of(client.get("/sign-in").text)
        told = {"csrf": token, "secret": "slk_guessed"}

        answers = [client.post("/sign-in", data=told).status_code for _ in range(2 * ATTEMPTS_PER_NAME + 1)]

    # A window may end in between: then there are two of them.
    assert 429 in answers
    assert answers.count(401) <= 2 * ATTEMPTS_PER_NAME


def test_signing_out_ends_the_session(site):
    with signed_in(site, "viewer") as client:
        answer = client.post("/sign-out", data={"csrf": token_of(client.get("/").text)})

        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert client.get("/").status_code == 303


# Writes ---------------------------------------------------------------------------------------------------------------


def test_a_write_without_its_token_is_refused(site):
    with signed_in(site, "viewer") as client:
        for told in ({"other": "field"}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "é"}):
            answer = client.post("/sign-out", data=told)
            assert answer.status_code == 403
            assert "did not come from one of our pages" in answer.text
        assert client.get("/").status_code == 200


def test_the_token_of_another_session_is_refused(site):
    with signed_in(site, "viewer") as mine, signed_in(site, "auditor") as theirs:
        answer = mine.post("/sign-out", data={"csrf": token_of(theirs.get("/").text)})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_write_from_another_site_is_refused_even_with_a_token(site, headers):
    with signed_in(site, "viewer") as client:
        answer = client.post("/sign-out", data={"csrf": token_of(client.get("/").text)}, headers=headers)

    assert answer.status_code == 403


def test_a_write_from_our_own_origin_is_accepted(site):
    with signed_in(site, "viewer") as client:
        headers = {"origin": site.url, "sec-fetch-site": "same-origin"}
        answer = client.post("/sign-out", data={"csrf": token_of(client.get("/").text)}, headers=headers)

    assert answer.status_code == 303


def test_a_form_that_cannot_be_read_is_refused(site):
    with signed_in(site, "viewer") as client:
        assert client.post("/sign-out", json={}).status_code == 415
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert client.post("/sign-out", content=b"csrf=1&csrf=2", headers=form).status_code == 400
        assert client.post("/sign-out", content=b"\xff", headers=form).status_code == 400
        assert client.post("/sign-out", content=b"a=" + b"x" * 70_000, headers=form).status_code == 413


# Sessions -------------------------------------------------------------------------------------------------------------


def test_a_cookie_that_was_changed_is_no_session(site):
    with signed_in(site, "viewer") as client:
        payload, _, signature = client.cookies["ledger"].partition(".")
        told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        forged = base64.urlsafe_b64encode(json.dumps({**told, "user": "operator"}).encode()).decode().rstrip("=")

    for value in (
        f"{forged}.{signature}",
        f"{payload}.",
        payload,
        f".{signature}",
        "x" * 2_000,
        f"{payload}.{'0' * 64}",
    ):
        with browser(site) as client:
            client.cookies.set("ledger", value)
            assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "told",
    [
        None, "", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\nb",
        "/sign-out", "/sign-in", "evil", "/" + "x" * 2_000, "/é",
    ],
)  # fmt: skip
def test_nothing_leads_elsewhere_after_signing_in(told):
    assert local_path(told) == "/"


@pytest.mark.parametrize("told", ["/", "/messages/5?as_of=2026-01-01T00:00:00Z", "/?q=status:failed%20since:1h"])
def test_a_path_of_ours_is_where_signing_in_leads(told):
    assert local_path(told) == told
