"""What pages do besides: theme, copying, verification, sessions that end, and axe before anybody has signed in."""

import re

import pytest
from playwright.sync_api import expect

from tests.plugins.chromium import DESK, PHONE, is_wider_than_the_screen, serious
from tests.screens import people
from tests.screens.stories import a_read_message


@pytest.fixture
def page(site, open_page):
    return open_page(site.url, cookies={"ledger": people.session(site, "operator")})


def test_the_theme_changes_and_stays(page):
    page.goto("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)

    page.get_by_role("button", name="Change between light and dark").click()

    dark = page.evaluate(ground)
    assert dark != light
    page.goto("/reports")
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Change between light and dark").click()
    assert page.evaluate(ground) == light


def test_an_id_is_copied_and_that_is_said(page, site, whatsapp):
    message_id = a_read_message(site, whatsapp)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/messages/{message_id}")

    page.get_by_role("button", name="Copy message id").click()

    expect(page.locator("#announcement")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(message_id)


def test_a_message_is_verified_again_without_leaving_the_page(page, site, whatsapp):
    page.goto(f"/messages/{a_read_message(site, whatsapp)}")
    badge = page.locator("#proof .badge")
    expect(badge).to_have_text(re.compile("Verified|Awaiting a checkpoint"))

    with page.expect_response(re.compile("/proof$")) as told:
        page.get_by_role("button", name="Verify again").click()

    assert told.value.status == 200
    expect(badge).to_have_text(re.compile("Verified|Awaiting a checkpoint"))


def test_whoever_was_signed_out_signs_in_and_is_back_where_they_were(page, site):
    page.goto("/reports?range=30d")
    page.context.clear_cookies()

    page.get_by_role("link", name="24 hours").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    _, secret = site.new_key("meta-main", "whatsapp")
    page.locator("#secret").fill(secret)
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(r"/reports\?range=24h"))


def test_a_list_that_refreshes_itself_leads_to_sign_in_once_its_session_is_over(page):
    page.goto("/")
    page.context.clear_cookies()

    expect(page).to_have_url(re.compile(r"/sign-in"))


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_where_one_signs_in(site, open_page, size, dark):
    page = open_page(site.url, size=size, dark=dark)
    page.goto("/sign-in")

    assert serious(page) == []
    assert not is_wider_than_the_screen(page)


def test_the_main_tasks_need_no_mouse(page, site, whatsapp):
    message_id = a_read_message(site, whatsapp)
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type(str(message_id))
    page.keyboard.press("Enter")
    expect(page.locator(f"#row-{message_id}")).to_be_visible()

    page.locator(f"#link-{message_id}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(str(message_id))

    for name in ("Failures", "Reports", "Operations"):
        page.get_by_role("link", name=name, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_viewer_is_told_what_their_role_does_not_allow(site, open_page):
    page = open_page(site.url, cookies={"ledger": people.session(site, "viewer")})
    page.goto("/")
    expect(page.get_by_role("link", name="Operations")).to_have_count(0)

    answer = page.goto("/operations")

    assert answer.status == 403
    expect(page.get_by_text("Your role does not allow this")).to_be_visible()


def test_a_form_without_the_token_of_its_session_is_refused(page):
    page.goto("/operations")
    row = page.get_by_role("region", name="Read models").get_by_role("row").filter(has_text="conversations")
    page.evaluate("for (const each of document.querySelectorAll('input[name=csrf]')) each.value = '0'.repeat(64)")

    with page.expect_response(re.compile("/operations/rebuild$")) as told:
        row.get_by_role("button", name="Rebuild conversations", exact=True).click()

    assert told.value.status == 403
    expect(page.get_by_text("This did not come from one of our pages")).to_be_visible()
    page.goto("/operations")
    expect(row).not_to_contain_text("Rebuilding")
