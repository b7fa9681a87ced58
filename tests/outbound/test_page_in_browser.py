"""The page of endpoints in a real browser: what a person does there, on a desk and on a phone, by day and by night."""

import pytest
from playwright.sync_api import Page, expect

from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.outbound.receiver import Receiver, answers
from tests.plugins.chromium import DESK, PHONE, OpenPage, is_wider_than_the_screen, serious
from tests.plugins.service import Service, Starter, eventually


@pytest.fixture
def told_service(start_service: Starter, database_url: str) -> Service:
    """A server that may tell endpoints on this machine."""
    return start_service(database_url, outbound_allow="127.0.0.0/8")


def sign_in(page: Page, key: str) -> None:
    """Sign in by keys alone."""
    page.goto("/pages/webhooks")
    page.keyboard.press("Tab")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Endpoints", exact=True)).to_be_visible()


def make(page: Page, url: str) -> str:
    """Make an endpoint and return its secret, which is shown once."""
    page.get_by_label("Address").fill(url)
    page.get_by_label("Description").fill("Orders")
    page.get_by_role("button", name="Make endpoint").click()
    expect(page.get_by_role("heading", name=url)).to_be_visible()
    return page.locator("#secret-text").inner_text()


def test_an_endpoint_is_made_told_looked_into_and_deleted(
    told_service: Service, receiver: Receiver, open_page: OpenPage
) -> None:
    receiver.script.append(answers(500, b"not now"))
    page = open_page(told_service.url)
    sign_in(page, told_service.new_key("meta-main", "whatsapp")[1])
    first = make(page, receiver.url)
    assert first.startswith("whsec_")

    send(told_service, meta(meta_status(new_wamid(), "sent", 0)))
    eventually(lambda: receiver.received, "the endpoint is told")
    expect(page.locator("#deliveries tbody tr")).to_have_count(0)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#deliveries tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Log").click()
    expect(page.locator("#log tbody tr").first).to_contain_text("500")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#message")).to_have_text("It is sent again.")
    eventually(lambda: len(receiver.received) > 1, "the endpoint is told again")

    page.get_by_role("button", name="Replace secret").click()
    expect(page.locator("#secret-text")).not_to_have_text(first)
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("#endpoints tbody")).to_contain_text("disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#endpoints tbody")).to_contain_text("enabled")

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Really delete it").click()
    expect(page.get_by_text("There are none yet.")).to_be_visible()


def test_what_is_wrong_is_said(told_service: Service, open_page: OpenPage) -> None:
    page = open_page(told_service.url)
    page.goto("/pages/webhooks")
    page.get_by_label("API key").fill("not a key")
    page.get_by_role("button", name="Show endpoints").click()
    expect(page.locator("#message")).to_contain_text("key")

    page.get_by_label("API key").fill(told_service.new_key("meta-main", "whatsapp")[1])
    page.get_by_role("button", name="Show endpoints").click()
    page.get_by_label("Address").fill("http://169.254.169.254/latest")
    page.get_by_role("button", name="Make endpoint").click()
    expect(page.locator("#message")).not_to_be_empty()
    expect(page.get_by_text("There are none yet.")).to_be_visible()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    told_service: Service, receiver: Receiver, open_page: OpenPage, size: tuple[int, int], dark: bool
) -> None:
    page = open_page(told_service.url, size=size, dark=dark)
    sign_in(page, told_service.new_key("meta-main", "whatsapp")[1])
    assert serious(page) == []
    make(page, f"{receiver.url}/a-rather-long-path-of-an-endpoint-that-has-to-be-broken-somewhere?and=a&query=string")
    send(told_service, meta(meta_status(new_wamid(), "sent", 0), meta_status(new_wamid(), "delivered", 1)))
    eventually(lambda: len(receiver.received) == 2, "the endpoint is told")
    page.get_by_role("button", name="Open").click()
    page.get_by_role("button", name="Log").first.click()
    expect(page.locator("#log tbody tr")).to_have_count(1)

    assert serious(page) == []
    assert not is_wider_than_the_screen(page)
