"""The page of endpoints: served with what it needs and nothing else, and a client of documented routes only."""

import re

import pytest

from ledger.http import endpoint_routes
from ledger.http.endpoints import Endpoints
from ledger.http.pages.serving import PAGES
from tests.docs.documents import ROOT
from tests.plugins.service import Service

FILES = {name: (ROOT / "ledger/http/pages" / name).read_text("utf-8") for name in PAGES.values()}


@pytest.mark.parametrize("path", PAGES)
def test_files_are_served_without_a_key_and_may_load_only_their_own_kind(service: Service, path: str) -> None:
    answer = service.client().get(path)

    assert answer.status_code == 200
    assert answer.text == FILES[PAGES[path]]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_has_no_script_style_or_address_of_others_in_it() -> None:
    page = FILES["webhooks.html"]

    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["/pages/webhooks.css", "/pages/webhooks.js"]
    assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:", page)
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL))
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|cookie", FILES["webhooks.js"]
    )


def test_every_element_that_the_script_asks_for_is_on_the_page_once() -> None:
    page = FILES["webhooks.html"]
    asked = set(re.findall(r'(?:at|onSubmit)\("([a-z-]+)"', FILES["webhooks.js"]))

    assert {id_: page.count(f'id="{id_}"') for id_ in asked} == dict.fromkeys(asked, 1)


def test_the_script_calls_routes_that_exist_and_nothing_else() -> None:
    known = {
        (each.method, re.sub(r"{\w+}", "*", each.path))
        for each in endpoint_routes.operations(object.__new__(Endpoints))
    }
    calls = re.findall(r'call\("([A-Z]+)", [`"]([^`"?]+)', FILES["webhooks.js"])

    called = {(method, re.sub(r"\$\{[\w.]+\}", "*", path)) for method, path in calls}

    assert len(called) == 11
    assert called <= known
    assert FILES["webhooks.js"].count("fetch(") == 1


def test_every_control_has_a_label() -> None:
    page = FILES["webhooks.html"]
    controls = re.findall(r'<(?:input|select) id="([a-z]+)"', page)

    assert set(re.findall(r'<label for="([a-z]+)"', page)) == set(controls)
