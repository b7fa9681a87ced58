"""Pages in a real browser: searching, following a message live, rewinding, keys alone, and what axe-core finds."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.ingest.fault_proxy import proxied
from tests.plugins.chromium import DESK, PHONE, is_wider_than_the_screen, serious
from tests.screens import people
from tests.screens.stories import (
    HOSTILE,
    a_contested_message,
    a_failed_message,
    a_hostile_message,
    a_read_message,
    message_of,
)
from tests.screens.test_failures import a_failure


@pytest.fixture(scope="module")
def whatsapp(site):
    return site.api("meta-main", "whatsapp")


@pytest.fixture
def operator(site, open_page):
    return lambda **options: open_page(site.url, cookies={"ledger": people.session(site, "operator")}, **options)


def test_a_message_is_searched_opened_followed_live_and_rewound(site, whatsapp, operator):
    wamid = new_wamid()
    send(site, meta(meta_status(wamid, "sent", 0)))
    message_id = message_of(whatsapp, wamid)
    page = operator()

    page.goto("/")
    page.get_by_role("searchbox").fill(wamid)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=str(message_id)).click()
    expect(page.locator("[data-live-state=live]")).to_be_visible()
    expect(page.locator(".status-large .status")).to_have_text("Sent")

    page.evaluate("window.sameDocument = true")
    send(site, meta(meta_status(wamid, "delivered", 5)))
    expect(page.locator(".status-large .status")).to_have_text("Delivered")
    send(site, meta(meta_status(wamid, "read", 9)))
    expect(page.locator(".status-large .status")).to_have_text("Read")
    assert page.evaluate("window.sameDocument") is True

    page.get_by_label(re.compile("^As of")).focus()
    page.keyboard.press("Home")
    expect(page.locator(".status-large .status")).to_have_text("Sent")
    expect(page).to_have_url(re.compile("as_of="))
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator(".status-large .status")).to_have_text("Read")


def test_a_page_hears_of_what_happened_while_its_connection_was_away(site, whatsapp, open_page):
    wamid = new_wamid()
    send(site, meta(meta_status(wamid, "sent", 0)))
    message_id = message_of(whatsapp, wamid)
    with proxied(make_conninfo(host=site.address[0], port=site.address[1])) as network:
        url = f"http://127.0.0.1:{conninfo_to_dict(network.url)['port']}"
        page = open_page(url, cookies={"ledger": people.session(site, "operator")})
        page.goto(f"/messages/{message_id}")
        expect(page.locator("[data-live-state=live]")).to_be_visible()

        network.down()
        expect(page.locator("[data-live-state=lost]")).to_be_visible()
        send(site, meta(meta_status(wamid, "delivered", 5)))
        network.up()

        expect(page.locator(".status-large .status")).to_have_text("Delivered")
        expect(page.locator("[data-live-state=live]")).to_be_visible()


def test_the_list_follows_what_happens(site, whatsapp, operator):
    page = operator()
    page.goto("/")
    message_id = a_read_message(site, whatsapp)

    expect(page.locator(f"#row-{message_id}")).to_be_visible()


def test_somebody_signs_in_with_keys_alone(site, open_page, whatsapp):
    page = open_page(site.url)
    _, secret = site.new_key("meta-main", "whatsapp")
    message_id = a_read_message(site, whatsapp)

    page.goto(f"/messages/{message_id}")
    page.locator("#secret").focus()
    page.keyboard.type(secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(str(message_id))

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.goto("/")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("status:read")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("status%3Aread|status:read"))


def test_hostile_text_runs_nowhere(site, whatsapp, operator):
    page = operator()

    for path in (f"/messages/{a_hostile_message(site, whatsapp)}", "/"):
        page.goto(path)
        expect(page.get_by_text("onerror=alert(1)").first).to_be_visible()
        assert page.locator("main img, main script").count() == 0
    page.goto("/operations")
    expect(page.get_by_role("heading", name="Coming in")).to_be_visible()
    expect(page.get_by_text("onerror=alert(1)").first).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    hostile = quote(HOSTILE)
    for path in (f"/failures/reason?category=a&code=1&title={hostile}", f"/failures?provider={hostile}"):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(site, whatsapp, operator, size, dark):
    page = operator(size=size, dark=dark)
    shown = [a_read_message, a_failed_message, a_contested_message, a_hostile_message]

    made = [f"/messages/{make(site, whatsapp)}" for make in shown]
    reason = "/failures/reason?channel=whatsapp&provider=meta&category=recipient&code=131026&title={}"
    numbers = (
        "/operations",
        "/failures",
        reason.format("WhatsApp could not deliver to this recipient"),
        "/reports",
        "/reports?range=24h",
    )

    for path in ("/", "/?q=statis:1", "/messages/0", *numbers, *made):
        page.goto(path)
        assert serious(page) == [], path
        assert not is_wider_than_the_screen(page), path


def test_failures_lead_to_a_message_and_back(site, whatsapp, operator):
    message_id = a_failed_message(site, whatsapp)
    page = operator()
    page.goto("/")
    page.get_by_role("link", name="Failures").click()
    counted = page.get_by_role("region", name="Failures by reason").get_by_role("link").first
    expect(counted).to_be_visible()

    page.goto("/failures?account=meta-main&channel=whatsapp")
    page.get_by_role("link", name="WhatsApp could not deliver to this recipient").click()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible()
    page.get_by_role("link", name=str(message_id)).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(str(message_id))
    page.go_back()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible()


def test_a_report_is_drawn_and_its_range_and_zone_change(site, whatsapp, operator):
    a_read_message(site, whatsapp)
    page = operator()
    page.goto("/reports?range=30d")
    expect(page.locator(".uplot").first).to_be_visible()
    expect(page.get_by_role("heading", name="Delivery rate by day")).to_be_visible()

    page.get_by_role("link", name="24 hours").click()
    expect(page.get_by_role("heading", name="Delivery rate by hour")).to_be_visible()
    expect(page).to_have_url(re.compile("range=24h"))
    page.locator("#asked-more > summary").click()
    page.get_by_label("Time zone").fill("Asia/Tokyo")
    page.get_by_label("Channel").select_option("whatsapp")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("time_zone=Asia%2FTokyo"))
    expect(page.get_by_text("WhatsApp · ").first).to_be_visible()

    page.get_by_text("Numbers").first.click()
    expect(page.locator("#rate-table tbody tr").first).to_contain_text("+09:00")
    with page.expect_download() as told:
        page.get_by_role("link", name="CSV").first.click()
    assert told.value.suggested_filename == "delivery.csv"


def test_somebody_resolves_what_needs_attention(site, whatsapp, operator):
    a_failure(site, whatsapp, 990_001)
    page = operator()
    page.goto("/operations")
    item = page.locator(".inbox li").filter(has_text="990001")

    item.get_by_text("Resolve").first.click()
    item.get_by_label("What was done about it").fill("It is in the catalogue now")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    expect(item).to_have_count(0)


def test_a_read_model_is_rebuilt_from_the_page_after_a_preview(site, whatsapp, operator):
    a_read_message(site, whatsapp)
    page = operator()
    page.goto("/operations")
    row = page.get_by_role("region", name="Read models").get_by_role("row").filter(has_text="status changes")

    row.get_by_role("button", name="Preview").click()
    expect(row).to_contain_text("Previewed", timeout=60_000)
    expect(row).to_contain_text("0 would change")
    row.get_by_role("button", name="Rebuild status changes", exact=True).click()
    expect(row).to_contain_text("Rebuilt", timeout=60_000)
    expect(row).to_contain_text("0 changed")


def test_what_is_turned_away_shows_up_while_somebody_looks(site, whatsapp, operator):
    page = operator()
    page.goto("/operations")
    with site.another_client() as client:
        client.post("/webhooks/meta-main", content=b"{}", headers={"content-type": "text/made-up"})

    expect(page.locator("#live").get_by_text("Turned away: 415").first).to_be_visible()
