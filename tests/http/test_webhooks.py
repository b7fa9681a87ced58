"""What `/webhooks/{account}` answers, and what is on record afterwards."""

import gzip
import json
import re
import socket
import time

import pytest

from tests.http.callbacks import (
    FORM,
    JSON,
    Callback,
    found,
    history,
    instant,
    meta,
    meta_body,
    meta_failure,
    meta_signed,
    meta_status,
    new_phone,
    new_sid,
    new_token,
    new_wamid,
    only,
    send,
    twilio,
    twilio_signed,
    viber,
    viber_signed,
)
from tests.plugins.service import Service

#: The service's own limit: LEDGER_BODY_BYTES_MAX.
BODY_BYTES_MAX = 4 * 1024 * 1024


@pytest.fixture
def whatsapp(service):
    return service.api("meta-main", "whatsapp")


def total(service: Service, name: str, **labels: str) -> float:
    """Return the sum of a metric over all samples that carry these labels."""
    text = service.client().get("/metrics").text
    samples = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for told, value in samples if all(one in told for one in wanted))


def counts(service: Service) -> tuple[int, int]:
    """Return how many events and captures there are."""
    return service.rows("SELECT (SELECT count(*) FROM events), (SELECT sum(times_received) FROM captures)")[0]


# Recorded


@pytest.mark.parametrize(
    ("make", "account", "channel"),
    [
        (lambda: (id_ := new_wamid(), meta(meta_status(id_, "delivered"))), "meta-main", "whatsapp"),
        (lambda: (id_ := new_sid(), twilio(id_, "delivered")), "twilio-main", "sms"),
        (lambda: (id_ := new_sid(), twilio(id_, "delivered", To="whatsapp:+12025550123")), "twilio-main", "whatsapp"),
        (lambda: (id_ := new_token(), viber(id_, "delivered")), "viber-main", "viber"),
    ],
    ids=["meta", "twilio sms", "twilio whatsapp", "viber"],
)
def test_a_callback_is_on_record_when_it_is_answered(service, make, account, channel):
    provider_message_id, callback = make()
    api = service.api(account, channel)

    answer = send(service, callback)

    assert (answer.status_code, answer.content) == (200, b"")
    message = only(api, provider_message_id)
    assert (message["status"], message["version"], message["channel"]) == ("DELIVERED", 1, channel)
    (event,) = history(api, message)
    assert event["verdict"] == "advance"
    assert event["source"] == "callback"
    assert event["evidence"] in callback.body.decode()


def test_the_second_of_two_configured_secrets_signs_as_well(service, whatsapp):
    wamid = new_wamid()

    answer = send(service, meta_signed(meta_body([meta_status(wamid)]), secret="meta-secret-old"))

    assert answer.status_code == 200
    assert only(whatsapp, wamid)["status"] == "SENT"


def test_a_callback_sent_again_is_answered_alike_and_adds_nothing(service, whatsapp):
    wamid = new_wamid()
    callback = meta(meta_status(wamid))
    before = total(service, "ledger_redelivered_total", provider="meta")

    answers = [send(service, callback) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    message = only(whatsapp, wamid)
    assert message["version"] == len(history(whatsapp, message)) == 1
    assert total(service, "ledger_redelivered_total", provider="meta") == before + 2


def test_the_same_statement_in_another_request_is_the_same_observation(service, whatsapp):
    wamid, other = new_wamid(), new_wamid()
    send(service, meta(meta_status(wamid)))

    answer = send(service, meta(meta_status(other), meta_status(wamid)))

    assert answer.status_code == 200
    assert only(whatsapp, wamid)["version"] == 1
    assert only(whatsapp, other)["version"] == 1


def test_a_message_said_twice_in_one_request_is_recorded_once(service, whatsapp):
    wamid = new_wamid()

    answer = send(service, meta(meta_status(wamid), meta_status(wamid), meta_status(wamid, "delivered", 5)))

    assert answer.status_code == 200
    assert [event["provider_status"] for event in history(whatsapp, only(whatsapp, wamid))] == ["sent", "delivered"]


def test_a_batch_of_two_hundred_statuses_is_recorded_whole(service, whatsapp):
    wamids = [new_wamid() for _ in range(200)]
    before = counts(service)

    answer = send(service, meta(*(meta_status(wamid, "delivered") for wamid in wamids)))

    assert answer.status_code == 200
    assert counts(service)[0] == before[0] + 200
    assert {only(whatsapp, wamid)["status"] for wamid in wamids[::20]} == {"DELIVERED"}


def test_statuses_beside_inbound_messages_are_recorded(service, whatsapp):
    wamid = new_wamid()
    inbound = [{"from": "12025550123", "id": new_wamid(), "type": "text", "text": {"body": "hello"}}]

    answer = send(service, meta_signed(meta_body([meta_status(wamid)], messages=inbound)))

    assert answer.status_code == 200
    assert only(whatsapp, wamid)["status"] == "SENT"


@pytest.mark.parametrize("word", ["shipped", "DELIVERED_TO_THE_MOON", "送达", "read?", "x" * 200])
def test_a_word_no_table_knows_is_kept_and_says_nothing(service, whatsapp, word):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "sent")))
    before = total(service, "ledger_unrecognised_total", provider="meta")

    answer = send(service, meta(meta_status(wamid, word, 9)))

    assert answer.status_code == 200
    message = only(whatsapp, wamid)
    assert message["status"] == "SENT"
    last = history(whatsapp, message)[-1]
    assert (last["provider_status"], last["recognised"], last["verdict"]) == (word, False, "note")
    assert total(service, "ledger_unrecognised_total", provider="meta") == before + 1


def test_an_unknown_word_opens_a_message_of_unknown_status(service):
    sid, api = new_sid(), service.api("twilio-main", "sms")

    answer = send(service, twilio(sid, "teleported"))

    assert answer.status_code == 200
    assert only(api, sid)["status"] == "UNKNOWN"


def test_the_providers_clock_and_ours_stay_apart(service, whatsapp):
    wamid = new_wamid()

    send(service, meta(meta_status(wamid, "delivered", 7)))

    message = only(whatsapp, wamid)
    assert (message["delivered_at"], message["time_basis"]["delivered_at"]) == (instant(7), "provider")
    (event,) = history(whatsapp, message)
    assert event["occurred_at"] == instant(7) < event["received_at"] <= event["recorded_at"]


@pytest.mark.parametrize("at", [-40 * 86_400, 7_200], ids=["forty days ago", "in the future"])
def test_an_unbelievable_time_is_shown_and_not_used(service, whatsapp, at):
    wamid = new_wamid()

    send(service, meta(meta_status(wamid, "delivered", at)))

    message = only(whatsapp, wamid)
    (event,) = history(whatsapp, message)
    assert (event["occurred_at"], event["occurred_at_believed"]) == (instant(at), False)
    assert (message["delivered_at"], message["time_basis"]["delivered_at"]) == (event["received_at"], "received")


# Kept because it could not be read


def test_a_batch_with_one_bad_item_records_the_good_ones_and_keeps_the_bad_one(service, whatsapp):
    first, last, marker = new_wamid(), new_wamid(), new_token()
    bad = {"id": {"not": marker}, "status": "sent"}

    answer = send(service, meta(meta_status(first), bad, meta_status(last, "read")))

    assert answer.status_code == 200
    assert only(whatsapp, first)["status"] == "SENT"
    assert only(whatsapp, last)["status"] == "READ"
    kept = [content for _, content in service.captured("meta-main") if marker.encode() in content]
    assert [bad] == [json.loads(content) for content in kept]


@pytest.mark.parametrize(
    ("sign", "account", "body"),
    [
        (meta_signed, "meta-main", b'{"object": "whatsapp_business_account", "marker": "%s"'),
        (meta_signed, "meta-main", b"not json %s"),
        (meta_signed, "meta-main", b'["%s"]'),
        (meta_signed, "meta-main", b'{"entry": "%s"}'),
        (meta_signed, "meta-main", b'{"entry": [], "deep": %s' + b"[" * 5_000),
        (meta_signed, "meta-main", b"\xff\xfe%s"),
        (twilio_signed, "twilio-main", b"MessageStatus=sent&marker=%s"),
        (twilio_signed, "twilio-main", b"MessageSid=SM1&MessageStatus=+&marker=%s"),
        (viber_signed, "viber-main", b'{"event": "delivered", "marker": "%s"}'),
        (viber_signed, "viber-main", b'{"event": "delivered", "message_token": 1e999, "marker": "%s"}'),
        (viber_signed, "viber-main", b"[%s]"),
    ],
)
def test_an_authentic_request_that_cannot_be_read_is_kept_verbatim_and_answered_200(service, sign, account, body):
    told = body % new_token().encode()

    answer = send(service, sign(told, account=account))

    assert (answer.status_code, answer.content) == (200, b"")
    kept = [reason for reason, content in service.captured(account) if content == told]
    assert len(kept) == 1
    assert told not in kept[0].encode()


def test_an_unreadable_request_sent_again_is_kept_once_and_counted(service):
    body = b"unreadable " + new_token().encode()
    before = counts(service)[1] or 0

    answers = [send(service, meta_signed(body)).status_code for _ in range(3)]

    assert answers == [200] * 3
    assert [content for _, content in service.captured("meta-main")].count(body) == 1
    assert counts(service)[1] == before + 3


def test_an_empty_body_signed_is_kept(service):
    answer = send(service, meta_signed(b""))

    assert answer.status_code == 200
    assert b"" in [content for _, content in service.captured("meta-main")]


# Refused


def refused(service: Service, callback: Callback) -> tuple[int, str]:
    """Return status and code of a refusal, having checked its shape and that nothing came of it."""
    before = counts(service)
    answer = send(service, callback)
    assert before == counts(service)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "request_id", "code"} <= set(problem)
    assert problem["status"] == answer.status_code
    assert len(answer.content) < 512
    return answer.status_code, problem["code"]


def tampered(callback: Callback) -> Callback:
    return callback._replace(body=callback.body + b" ")


def without(callback: Callback, header: str) -> Callback:
    return callback._replace(headers={name: value for name, value in callback.headers.items() if name != header})


def with_header(callback: Callback, **headers: str) -> Callback:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return callback._replace(headers=callback.headers | told)


UNAUTHENTIC = {
    "meta tampered": lambda: tampered(meta(meta_status(new_wamid()))),
    "meta unsigned": lambda: without(meta(meta_status(new_wamid())), "x-hub-signature-256"),
    "meta signed by another account": lambda: meta(meta_status(new_wamid()), account="meta-other")._replace(
        account="meta-main"
    ),
    "meta with an empty signature": lambda: with_header(meta(meta_status(new_wamid())), x_hub_signature_256=""),
    "meta with a foreign algorithm": lambda: with_header(
        without(meta(meta_status(new_wamid())), "x-hub-signature-256"), x_hub_signature="sha1=" + "0" * 40
    ),
    "meta with a latin signature": lambda: meta(meta_status(new_wamid()))._replace(
        headers={"content-type": JSON, "x-hub-signature-256": b"sha256=\xe9".decode("latin-1")}  # type: ignore[dict-item]
    ),
    "twilio tampered": lambda: twilio(new_sid())._replace(body=b"MessageSid=SM1&MessageStatus=failed"),
    "twilio unsigned": lambda: without(twilio(new_sid()), "x-twilio-signature"),
    "twilio with another query": lambda: twilio(new_sid())._replace(query="tenant=mallory"),
    "twilio of another algorithm": lambda: with_header(
        twilio(new_sid()), x_twilio_webhooks_signature_settings="algorithm=none"
    ),
    "viber tampered": lambda: tampered(viber(new_token())),
    "viber unsigned": lambda: without(viber(new_token()), "x-viber-content-signature"),
    "viber signed by another provider": lambda: meta(meta_status(new_wamid()))._replace(account="viber-main"),
}


@pytest.mark.parametrize("name", UNAUTHENTIC)
def test_a_request_that_no_secret_signed_is_refused(service, name):
    callback = UNAUTHENTIC[name]()
    encoded = {key: value.encode("latin-1") for key, value in callback.headers.items()}

    assert refused(service, callback._replace(headers=encoded)) == (401, "not_authentic")


def test_only_the_configured_url_counts_whatever_the_request_claims(service):
    sid, api = new_sid(), service.api("twilio-main", "sms")
    spoofed = with_header(
        twilio(sid),
        host="mallory.example",
        x_forwarded_host="mallory.example",
        x_forwarded_proto="http",
        x_forwarded_port="1",
    )

    assert send(service, spoofed).status_code == 200
    assert only(api, sid)["status"] == "SENT"


@pytest.mark.parametrize("account", ["nobody", "", "meta-main/", "META-MAIN", "meta-main%20", "..", "a" * 2_000])
def test_an_unknown_account_is_not_found(service, account):
    callback = meta(meta_status(new_wamid()))._replace(account=account)

    assert refused(service, callback) == (404, "account_unknown")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"])
def test_another_method_is_refused(service, method):
    answer = service.client().request(method, "/webhooks/twilio-main")

    assert answer.status_code == (400 if method == "BREW" else 405)  # no such method: refused by the HTTP parser
    assert method == "BREW" or "POST" in answer.headers["allow"]


def test_get_is_refused_where_the_provider_has_no_handshake(service):
    answer = service.client().get("/webhooks/viber-main")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_a_handshake_without_a_configured_token_is_not_found(service):
    query = "hub.mode=subscribe&hub.challenge=1&hub.verify_token="

    answer = service.client().get(f"/webhooks/meta-other?{query}")

    assert answer.status_code == 404


@pytest.mark.parametrize(
    "challenge", ["<script>alert(1)</script>", "a b", "%0d%0aset-cookie:x=1", "x" * 101, "", "%C3%A9", "1.5"]
)
def test_a_handshake_repeats_nothing_but_a_plain_word(service, challenge):
    query = f"hub.mode=subscribe&hub.verify_token=meta-verify-token&hub.challenge={challenge}"

    answer = service.client().get(f"/webhooks/meta-main?{query}")

    assert (answer.status_code, answer.json()["code"]) == (403, "handshake_refused")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "multipart/form-data; boundary=x", FORM, "", ";", "application/jsonx"],
)
def test_another_content_type_is_refused(service, content_type):
    callback = with_header(meta(meta_status(new_wamid())), content_type=content_type)

    assert refused(service, callback) == (415, "content_type_unsupported")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"]
)
def test_a_content_type_is_read_without_its_parameters(service, content_type):
    callback = with_header(meta(meta_status(new_wamid())), content_type=content_type)

    assert send(service, callback).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip"])
def test_a_compressed_body_is_refused_unread(service, encoding):
    body = gzip.compress(meta_body([meta_status(new_wamid())]))

    assert refused(service, meta_signed(body, **{"content-encoding": encoding})) == (415, "content_type_unsupported")


# Size


def exchange(service: Service, *parts: bytes, seconds: float = 10) -> bytes:
    """Send raw bytes and return what comes back until the server closes. It may do so while we still send."""
    with socket.create_connection(service.address, timeout=seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return received


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {JSON}", *lines, "", ""]).encode()


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 100 * 1024 * 1024, 10**14])
def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(service, length):
    started = time.monotonic()

    answer = exchange(service, head("/webhooks/meta-main", f"content-length: {length}"))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer
    assert time.monotonic() - started < 5


def test_a_chunked_body_is_refused_once_it_is_too_large(service):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    answer = exchange(service, head("/webhooks/meta-main", "transfer-encoding: chunked"), *[chunk] * 80)

    assert b"" == answer or answer.startswith(b"HTTP/1.1 413 ")  # a reset may overtake the answer


def test_a_body_of_the_largest_size_is_read(service):
    padded = meta_body([meta_status(wamid := new_wamid())]).ljust(BODY_BYTES_MAX)

    assert send(service, meta_signed(padded)).status_code == 200
    assert send(service, meta_signed(padded + b" ")).status_code == 413
    assert only(service.api(), wamid)["version"] == 1


def test_a_chunked_body_is_read(service, whatsapp):
    callback = meta(meta_status(wamid := new_wamid()))
    halves = iter([callback.body[:50], callback.body[50:]])

    answer = service.client().post("/webhooks/meta-main", content=halves, headers=callback.headers)

    assert answer.status_code == 200
    assert only(whatsapp, wamid)["status"] == "SENT"


@pytest.mark.parametrize(
    "request_head",
    [
        head("/webhooks/meta-main", "content-length: -1"),
        head("/webhooks/meta-main", "content-length: 5", "content-length: 6"),
        head("/webhooks/meta-main", "content-length: x"),
        head("/webhooks/meta-main", "transfer-encoding: chunked") + b"zz\r\n",
        b"POST /webhooks/meta-main HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["negative length", "two lengths", "no number", "bad chunk", "bad version", "tls"],
)
def test_bad_framing_is_answered_400(service, request_head):
    assert exchange(service, request_head).startswith(b"HTTP/1.1 400 ")


# Hostile


HOSTILE = {
    "nothing": b"",
    "nul": b"\0",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "huge integer": b'{"entry":[{"changes":[{"value":{"statuses":[{"id":%s,"status":"sent"}]}}]}]}' % (b"9" * 6_000),
    "infinity": b'{"entry":[{"changes":[{"value":{"statuses":[{"id":1e999,"status":"sent"}]}}]}]}',
    "surrogate": rb'{"entry":[{"changes":[{"value":{"statuses":[{"id":"\ud800","status":"sent"}]}}]}]}',
    "bad utf-8": b'{"entry":[{"changes":[{"value":{"statuses":[{"id":"\xff","status":"\xfe"}]}}]}]}',
    "nul in an id": rb'{"entry":[{"changes":[{"value":{"statuses":[{"id":"a\u0000b","status":"sent"}]}}]}]}',
    "nul in a text": (
        rb'{"entry":[{"changes":[{"value":{"statuses":[{"id":"nul-text","status":"failed",'
        rb'"errors":[{"code":1,"title":"a\u0000b"}]}]}}]}]}'
    ),
    "nul in every field": (
        rb'{"entry":[{"changes":[{"value":{"metadata":{"phone_number_id":"\u0000"},"statuses":[{"id":"nul-all",'
        rb'"status":"sent","recipient_id":"\u0000","recipient_user_id":"\u0000","timestamp":"\u0000",'
        rb'"biz_opaque_callback_data":"\u0000","errors":[{"code":"\u0000"}]}]}}]}]}'
    ),
    "repeated names": b'{"entry":1,"entry":[]}',
    "byte order mark": b'\xef\xbb\xbf{"entry":[]}',
    "many fields": b"a=1&" * 20_000,
    "many statuses": b'{"entry":[{"changes":[{"value":{"statuses":[%s]}}]}]}' % b",".join([b"0"] * 12_000),
    "html": b"<script>alert(1)</script>",
    "not a number": b'{"event":"delivered","message_token":NaN}',
    "a float": b'{"event":"delivered","message_token":5741311803571721087.0}',
    "a token beyond 64 bits": b'{"event":"delivered","message_token":99999999999999999999999}',
    "a time beyond time": b'{"event":"delivered","message_token":57413118035,"timestamp":99999999999999999999}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("sign", [meta_signed, viber_signed, twilio_signed], ids=["meta", "viber", "twilio"])
def test_hostile_bytes_signed_are_answered_200_and_nothing_breaks(service, sign, name):
    answer = send(service, sign(HOSTILE[name]))

    # Twilio's signature covers the fields of a form, and a form beyond any real one is not decoded to check it.
    assert answer.status_code == 200 or (
        sign is twilio_signed and len(HOSTILE[name]) > 40_000 and answer.status_code == 401
    )
    assert answer.content == b"" or answer.status_code == 401


@pytest.mark.parametrize(
    "text", ["\r\nset-cookie: a=1", "\x1b[31m", "<script>", "=cmd()", "{{7*7}}", "\u202e", "'; DROP TABLE events"]
)
def test_hostile_words_are_kept_as_they_are(service, whatsapp, text):
    wamid = new_wamid()

    answer = send(service, meta(meta_status(wamid, f"x{text}", biz_opaque_callback_data=text, recipient_id=f"y{text}")))

    assert answer.status_code == 200
    message = only(whatsapp, wamid)
    assert (message["client_reference"], message["recipient"]) == (text, f"y{text}")
    assert [event["provider_status"] for event in history(whatsapp, message)] == [f"x{text}"]


def test_no_answer_repeats_anything_of_the_request(service):
    phone, wamid = new_phone(), new_wamid()
    status = meta_status(wamid, f"canary-{phone}", recipient_id=phone, biz_opaque_callback_data=f"canary-{phone}")
    good = meta(status)
    requests = [
        good,
        tampered(good),
        with_header(good, content_type=f"text/{phone}"),
        with_header(good, content_encoding=phone),
        good._replace(account=f"canary-{phone}"),
        good._replace(query=f"sig={phone}&{wamid}"),
        meta_signed(good.body[:-9]),
        with_header(good, x_hub_signature_256=f"sha256={phone}"),
        meta({**status, "id": [wamid]}),
    ]

    answers = [send(service, callback) for callback in requests]

    assert {answer.status_code for answer in answers} == {200, 401, 404, 415}
    for answer in answers:
        shown = f"{answer.headers} {answer.text}"
        assert phone not in shown
        assert wamid not in shown
        assert "canary" not in shown


# Accounts apart


def test_the_same_id_under_two_accounts_is_two_messages(service):
    wamid = new_wamid()

    send(service, meta(meta_status(wamid, "sent"), account="meta-main"))
    send(service, meta(meta_status(wamid, "read"), account="meta-other"))

    assert only(service.api("meta-main", "whatsapp"), wamid)["status"] == "SENT"
    assert only(service.api("meta-other", "whatsapp"), wamid)["status"] == "READ"


def test_members_of_a_group_are_messages_of_their_own(service, whatsapp):
    wamid = new_wamid()
    group = {"recipient_id": "120363@g.us", "recipient_type": "group"}

    send(
        service,
        meta(
            meta_status(wamid, "delivered", recipient_participant_id="12025550123", **group),
            meta_status(wamid, "read", recipient_participant_id="12025550124", **group),
        ),
    )

    assert {(one["participant"], one["status"]) for one in found(whatsapp, wamid)} == {
        ("12025550123", "DELIVERED"),
        ("12025550124", "READ"),
    }


# Conflicts


def test_a_failure_after_a_delivery_is_a_conflict_and_changes_nothing_shown(service, whatsapp):
    wamid = new_wamid()

    send(service, meta(meta_status(wamid, "delivered", 0)))
    send(service, meta(meta_failure(wamid, 5)))

    message = only(whatsapp, wamid)
    assert (message["status"], message["conflict"]) == ("DELIVERED", "open")
    assert (message["delivered_at"], message["failed_at"]) == (instant(0), instant(5))
    assert [(claim["outcome"], claim["error_code"]) for claim in message["conflict_claims"]] == [
        ("delivered", None),
        ("failed", "131026"),
    ]


def test_an_account_may_let_a_delivery_win(service):
    wamid, api = new_wamid(), service.api("meta-wins", "whatsapp")
    send(service, meta(meta_failure(wamid, 0), account="meta-wins"))

    answer = send(service, meta(meta_status(wamid, "delivered", 5), account="meta-wins"))

    assert answer.status_code == 200
    message = only(api, wamid)
    assert (message["status"], message["conflict"], message["corrections"]) == ("DELIVERED", "settled", 1)
    assert [event["kind"] for event in history(api, message)] == ["observation", "observation", "correction"]
    assert history(api, message)[-1]["by"] == "rule:delivery-wins"


def test_a_stream_that_is_replayed_for_ever_stops_growing(service, whatsapp):
    wamid = new_wamid()
    statuses = [meta_status(wamid, "delivered", second) for second in range(100)]

    answer = send(service, meta(*statuses))

    assert answer.status_code == 200
    message = only(whatsapp, wamid)
    assert message["version"] == 64
    assert message["delivered_at"] == instant(0)
