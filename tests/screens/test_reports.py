"""The page of numbers: they are those of the API's reports, in ranges and time zones, and nothing of others."""

import csv
import io
import re

import pytest

from ledger.screens import reports
from ledger.screens.ranges import RANGES
from projections import latency
from tests.http.callbacks import new_sid, send, twilio
from tests.plugins.service import eventually
from tests.screens import people
from tests.screens.stories import a_failed_message, a_read_message
from tests.screens.test_failures import look


@pytest.fixture(scope="module")
def whatsapp(site):
    return site.api("meta-main", "whatsapp")


@pytest.fixture(scope="module")
def sms(site):
    return site.api("twilio-main", "sms")


@pytest.fixture(scope="module")
def told(site, whatsapp, sms):
    """Some messages, counted."""
    for _ in range(2):
        a_read_message(site, whatsapp)
    a_failed_message(site, whatsapp)
    send(site, twilio(new_sid(), "delivered"))
    report = "/v1/reports/delivery"
    for api, field in ((sms, "delivered"), (whatsapp, "failed")):
        eventually(lambda: any(item[field] for item in api.get(report).json()["items"]), "messages are counted")  # noqa: B023


def rows_of(page):
    """Return the cells of every row of every table, as text."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", " ", cell).split("\n")[0].strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in rows
    ]


def test_the_funnel_is_that_of_the_api(site, whatsapp, told):
    page = look(site, "/reports?account=meta-main&channel=whatsapp")
    (item,) = whatsapp.get("/v1/reports/delivery").json()["items"]

    counts = {row[0].split("  ")[0]: row[1] for row in rows_of(page) if len(row) == 4}
    for field, name, *_ in reports.STEPS:
        assert counts[name] == str(item[field]), name


@pytest.mark.parametrize("name", RANGES)
def test_every_range_has_hours_or_days(site, told, name):
    page = look(site, f"/reports?range={name}&time_zone=Asia/Kolkata")

    assert f"Delivery rate by {'hour' if name == '24h' else 'day'}" in page
    assert 'aria-current="true">' in page
    assert re.search(r'<tr data-x="\d{10}"><td>\d{4}-', page)


def test_a_day_is_that_of_the_time_zone(site, told):
    """The last day of a range counts whole, and days begin at midnight over there."""
    page = look(site, "/reports?since=2026-01-01&until=2026-01-02&time_zone=Asia/Kolkata")

    assert "2026-01-01 to 2026-01-02 · Asia/Kolkata" in page
    assert 'value="2026-01-01"' in page
    assert 'value="2026-01-02"' in page


def test_every_chart_says_what_it_is_where_it_comes_from_and_has_a_file(site, told):
    page = look(site, "/reports")

    cards = re.findall(r'<section class="card[^"]*"[^>]*>(.*?)</section>', page, re.DOTALL)
    assert len(cards) == 5
    for card in cards:
        assert '<p class="quiet">' in card
        assert "up to position" in card
        assert re.search(r'href="/reports/[a-z]+\.csv[^"]*">CSV', card)
    for plotted in re.findall(r'data-plot="([^"]+)"', page):
        assert f'<table id="{plotted}">' in page


@pytest.mark.parametrize("name", ["delivery", "failures", "latency", "stuck"])
def test_a_file_has_what_the_page_shows(site, told, name):
    with people.signed_in(site, "viewer") as client:
        answer = client.get(f"/reports/{name}.csv", params={"group_by": "channel"} if name != "stuck" else None)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    assert re.fullmatch(r"(\d+=\d+(, )?)+", answer.headers["ledger-positions"])
    if name != "stuck":
        assert {row["channel"] for row in csv.DictReader(io.StringIO(answer.text))} >= {"whatsapp"}


def test_a_file_that_there_is_not_is_not_found(site):
    look(site, "/reports/everything.csv", status=404)


def test_nobody_counts_messages_of_others(site, whatsapp, told):
    (item,) = whatsapp.get("/v1/reports/delivery").json()["items"]

    page = look(site, "/reports", "viewer-of-one")
    with people.signed_in(site, "viewer-of-one") as client:
        file = client.get("/reports/delivery.csv", params={"group_by": "account"}).text

    assert f"{item['messages']} messages" in page
    assert "twilio" not in page
    assert {row["account"] for row in csv.DictReader(io.StringIO(file))} == {"meta-main"}


def test_an_empty_range_is_said_to_be_empty(site):
    page = look(site, "/reports?since=2020-01-01&until=2020-01-31")

    assert "No messages in this range" in page


def test_every_measure_and_age_has_a_name():
    assert set(reports.MEASURES) == set(latency.MEASURES)
