"""The list of messages: what is found, pages, and nothing of others."""

import re
from html import unescape

import pytest

from tests.http.callbacks import meta, meta_failure, meta_status, new_phone, new_sid, new_wamid, send, twilio
from tests.http.test_api import registered
from tests.screens import people
from tests.screens.stories import a_contested_message, a_failed_message, a_read_message, message_of


def look(site, search="", name="viewer", secret=people.PASSWORD, **more):
    with people.signed_in(site, name, secret) as client:
        answer = client.get("/", params={"q": search, **more})
    assert answer.status_code == 200, answer.text
    return answer.text


def ids(page):
    return [int(found) for found in re.findall(r'href="/messages/([0-9]+)"', page)]


def test_a_message_is_found_by_its_id_and_by_everything_that_it_is_known_by(site, whatsapp):
    phone, reference, wamid = new_phone(), f"order {new_sid()}", new_wamid()
    message_id = registered(whatsapp, recipient=phone, client_reference=reference, provider_message_id=wamid)

    for term in (str(message_id), wamid, f"+{phone}", f"+1 202 {phone[4:7]} {phone[7:]}", reference, f'"{reference}"'):
        assert ids(look(site, term)) == [message_id], term


def test_words_narrow_a_term_down(site, whatsapp):
    phone = new_phone()
    sent = registered(whatsapp, recipient=phone)
    failed_wamid = new_wamid()
    failed = registered(whatsapp, recipient=phone, provider_message_id=failed_wamid)
    send(site, meta(meta_failure(failed_wamid)))

    assert ids(look(site, f"+{phone}")) == [failed, sent]
    assert ids(look(site, f"+{phone} status:failed")) == [failed]
    assert ids(look(site, f"+{phone} status:unknown,sent")) == [sent]
    assert ids(look(site, f"+{phone} channel:sms")) == []
    assert ids(look(site, f"+{phone} account:meta-main provider:meta since:1h")) == [failed, sent]
    assert ids(look(site, f"+{phone} until:1h")) == []


def test_rare_messages_are_found(site, whatsapp):
    contested, failed = a_contested_message(site, whatsapp), a_failed_message(site, whatsapp)

    assert ids(look(site, "conflict:open"))[0] == contested
    assert ids(look(site, "status:failed"))[0] == failed
    assert contested not in ids(look(site, "status:failed"))
    assert failed in ids(look(site, "status:failed category:recipient"))


def test_a_message_that_was_handed_off_is_listed_once_under_the_id_that_was_given(site, whatsapp):
    reference, wamid = new_sid(), new_wamid()
    message_id = registered(whatsapp, client_reference=reference)
    send(site, meta(meta_status(wamid, "delivered")))
    assert whatsapp.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid}).is_success

    assert ids(look(site, reference)) == [message_id]
    assert ids(look(site, wamid)) == [message_id]
    assert ids(look(site, str(message_id))) == [message_id]


def test_pages_follow_one_another_without_gaps(site, whatsapp, sms):
    made = []
    for number in range(105):  # on two accounts in turn: one list of both
        api, channel = (whatsapp, "whatsapp") if number % 2 else (sms, "sms")
        made.append(registered(api, channel, client_reference=f"paged-{number}"))

    with people.signed_in(site, "viewer") as client:
        found, address = [], "/?q=status:unknown"
        for _ in range(50):
            page = client.get(address).text
            found += ids(page)
            older = re.search(r'href="([^"]*)" rel="next"', page)
            if older is None or set(made) <= set(found):
                break
            address = unescape(older[1])

    assert [each for each in found if each in made] == made[::-1]
    assert len(found) == len(set(found))


def test_what_is_not_understood_is_explained_and_the_rest_is_done(site):
    page = look(site, 'statis:failed "<b>')

    assert "Did you mean status:failed?" in unescape(page)
    assert "<b>" not in page


def test_a_parameter_that_cannot_be_is_refused_as_a_page(site):
    with people.signed_in(site, "viewer") as client:
        for address in ("/?cursor=nonsense", "/?other=1", "/?q=1&q=2"):
            answer = client.get(address)
            assert answer.status_code == 400
            assert answer.headers["content-type"].startswith("text/html")


# Nothing of others ----------------------------------------------------------------------------------------------------


def test_whoever_sees_one_account_finds_nothing_of_others(site, whatsapp, sms):
    reference = new_sid()
    mine = registered(whatsapp, client_reference=reference)
    other = registered(sms, "sms", client_reference=reference)

    assert ids(look(site, reference)) == [other, mine]
    assert ids(look(site, reference, name="viewer-of-one")) == [mine]
    assert ids(look(site, str(other), name="viewer-of-one")) == []
    assert ids(look(site, "account:twilio-main", name="viewer-of-one")) == []
    assert "twilio-main" not in look(site, name="viewer-of-one")


def test_a_key_finds_what_the_api_shows_it(site, whatsapp):
    reference = new_sid()
    mine = registered(whatsapp, client_reference=reference)
    other = registered(site.api("meta-other", "whatsapp"), client_reference=reference)
    _, secret = site.new_key("meta-main", "whatsapp")

    assert ids(look(site, reference, name="", secret=secret)) == [mine]
    assert ids(look(site, str(other), name="", secret=secret)) == []


@pytest.mark.parametrize("name", ["viewer-of-one", "auditor-of-one", "operator-of-one"])
def test_pages_of_a_message_of_others_do_not_exist(site, sms, name):
    sid = new_sid()
    send(site, twilio(sid, "delivered"))
    other = message_of(sms, sid)

    with people.signed_in(site, name) as client:
        for path in (f"/messages/{other}", f"/messages/{other}/stream", f"/messages/{other}/proof"):
            answer = client.get(path)
            assert answer.status_code == (403 if "proof" in path and "viewer" in name else 404)
            assert sid not in answer.text
            assert "twilio" not in answer.text


def test_reading_a_message_is_logged_by_who_read_it(site, whatsapp):
    message_id = a_read_message(site, whatsapp)

    with people.signed_in(site, "auditor") as client:
        assert client.get(f"/messages/{message_id}").status_code == 200

    statement = "SELECT who, did, account FROM access_log WHERE message_id = %s"
    assert site.rows(statement, message_id) == [("auditor", "history", "meta-main")]
