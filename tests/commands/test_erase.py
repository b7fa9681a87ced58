"""`erase`, `erasures`, `hold`, `release`, `secrets rotate`."""

import base64

import pytest

from tests.http.callbacks import meta, meta_status, new_phone, new_wamid, only, send
from tests.plugins.service import MASTER_KEY


@pytest.fixture(scope="module")
def ledger_service(start_module_service, new_database):
    return start_module_service(new_database())


@pytest.fixture
def environ(ledger_service):
    return {name: value for name, value in ledger_service.environ.items() if name.startswith("LEDGER_")}


@pytest.fixture
def api(ledger_service):
    return ledger_service.api()


@pytest.fixture
def phone():
    return new_phone()


@pytest.fixture
def message(ledger_service, api, phone):
    wamid = new_wamid()
    send(ledger_service, meta({**meta_status(wamid, "sent"), "recipient_id": phone}))
    return only(api, wamid)


def test_an_erasure_is_shown_before_it_is_done(run, api, message, phone):
    ended = run("erase", "--recipient", f"+{phone}", "--json")

    assert ended.code == 0
    assert ended.json == {
        "done": False,
        "messages": 1,
        "streams": 1,
        "captures": 0,
        "held": 0,
        "erased_before": 0,
    }
    assert api.get(f"/v1/messages/{message['message_id']}").json()["recipient"] == f"+{phone}"
    assert "Nothing was done." in run("erase", "--recipient", phone).out


def test_an_erasure_is_done_with_a_name_and_a_reason(run, api, message, phone, tmp_path):
    certificate = tmp_path / "certificate.txt"

    ended = run(
        "erase", "--recipient", f"+{phone}", "--yes", "--by", "privacy-officer", "--why", "asked", "-o", certificate,
        "--json",
    )  # fmt: skip

    assert (ended.code, ended.json["done"], ended.json["messages"], ended.json["keys"]) == (0, True, 1, 1)
    assert certificate.read_text("utf-8") == ended.json["certificate"]
    assert ended.json["certificate"] in run("erasures").out
    assert run("erasures", "--json").json["items"][-1]["erased_by"] == "privacy-officer"
    shown = api.get(f"/v1/messages/{message['message_id']}").json()
    assert (shown["recipient"], shown["provider_message_id"], shown["status"]) == (None, None, "SENT")
    last = run("history", message["message_id"], "--json").json["items"][-1]
    assert (last["kind"], last["by"], last["why"].endswith("asked")) == ("erasure", "privacy-officer", True)
    assert run("verify").code == run("verify", "--message", message["message_id"]).code == 0
    assert phone not in ended.out.replace(ended.json["certificate"], "")
    assert [item["did"] for item in run("access", "--json").json["items"] if item["did"].startswith("erase")]


def test_one_message_or_a_reference_is_erased_by_name(run, api, message):
    reference = new_wamid()
    told = {"channel": "whatsapp", "client_reference": reference}
    registered = api.post("/v1/messages", json=told).json()["message_id"]
    by = ("--yes", "--by", "a", "--why", "b", "--json")

    assert run("erase", "--message", message["message_id"], *by).json["messages"] == 1
    assert run("erase", "--client-reference", reference, *by).json["messages"] == 1
    assert api.get(f"/v1/messages/{registered}").json()["client_reference"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--recipient", "+15550100", "--yes"),
        ("--recipient", "+15550100", "--yes", "--by", "a"),
        ("--recipient", "+15550100", "--message", "1"),
        ("--message", "1"),
        ("--recipient", "+15550100", "--yes", "--by", "a\nb", "--why", "c"),
        ("--replay", "nowhere/else.toml", "--yes", "--recipient", "1", "--message", "2"),
    ],
)
def test_an_erasure_that_says_too_little_is_bad_usage(run, arguments):
    ended = run("erase", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err


def test_a_held_message_stays_and_is_told_of(run, api, message, phone):
    assert run("hold", "--message", message["message_id"]).code == 2
    held = run("hold", "--message", message["message_id"], "--by", "counsel", "--why", "case 1", "--json")
    assert held.json == {"messages": 1, "streams": 1}
    assert run("hold", "--json").json["items"][-1]["held_by"] == "counsel"
    assert "counsel" in run("hold").out

    ended = run("erase", "--recipient", phone, "--yes", "--by", "a", "--why", "b", "--json")

    assert (ended.code, ended.json["messages"], ended.json["held"]) == (3, 0, 1)
    assert api.get(f"/v1/messages/{message['message_id']}").json()["recipient"] == f"+{phone}"
    assert run("release", "--message", message["message_id"], "--json").json == {"messages": 1, "streams": 1}
    assert run("erase", "--recipient", phone, "--yes", "--by", "a", "--why", "b", "--json").json["messages"] == 1


def test_the_list_is_carried_out_again_where_something_is_left(run, message, phone, ledger_service):
    run("erase", "--recipient", phone, "--yes", "--by", "a", "--why", "b")
    again = run("erase", "--replay", "--json")
    ledger_service.rows(
        "INSERT INTO message_keys SELECT stream_id, partition, '\\x00' FROM current_status WHERE message_id = %s "
        "RETURNING 1",
        message["message_id"],
    )
    ledger_service.rows("DELETE FROM message_keys WHERE wrapped = '\\x00' RETURNING 1")

    assert again.code == 0
    assert again.json["replayed"] == []
    assert again.json["orders"] >= 1


def test_a_list_that_is_none_is_bad_usage(run, tmp_path):
    (tmp_path / "list").write_text("nothing\n")

    assert run("erase", "--replay", tmp_path / "list").code == 2


def test_the_master_key_is_replaced(run, message, new_database, ledger_service):
    """On the service's database, at the end: its own processes would have to be restarted."""
    new = base64.b64encode(b"another master key made for test").decode()

    assert run("secrets", "rotate").code == 2
    ended = run("secrets", "rotate", "--json", master_key=new, master_key_other=MASTER_KEY)
    try:
        assert ended.code == 0
        assert ended.json["rotated"]["message_keys"] >= 1
        assert run("history", message["message_id"], master_key=new).code == 0
        assert run("history", message["message_id"]).code == 1
    finally:
        back = run("secrets", "rotate", "--json", master_key=MASTER_KEY, master_key_other=new)
    assert back.json["rotated"] == ended.json["rotated"]
    assert run("history", message["message_id"]).code == 0


def test_a_service_on_a_restored_database_erases_again_before_it_answers(
    *, run, message, phone, start_service, new_database, ledger_service
):
    """The database knows neither the message nor the erasure; the list does."""
    run("erase", "--recipient", phone, "--yes", "--by", "a", "--why", "b")
    url, list_ = new_database(), f"{ledger_service.environ['LEDGER_DATA_DIR']}/erasures.jsonl"
    missing = run("doctor", "--json", database_url=url, erasures=list_)
    (finding,) = [each for each in missing.json["findings"] if each["name"] == "erasures"]

    service = start_service(url, erasures=list_)
    send(service, meta({**meta_status(message["provider_message_id"], "sent"), "recipient_id": phone}))

    (shown,) = service.api().get("/v1/messages", params={"status": "SENT"}).json()["items"]  # others are only erased
    assert (missing.code, finding["ok"]) == (3, False)
    assert "erasure_replayed" in service.log()
    assert (shown["status"], shown["recipient"], shown["provider_message_id"]) == ("SENT", None, None)
    assert run("doctor", database_url=url, erasures=list_).code == 0
