"""One server for everything about pages."""

from collections.abc import Iterator

import httpx
import pytest

from tests.plugins.postgres import cloned
from tests.plugins.service import Service, starting
from tests.screens import people


@pytest.fixture(scope="session")
def site(postgres_url: str, template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with users. Nothing may go wrong in it that its code did not expect."""
    with cloned(postgres_url, template_url) as url, starting(lambda: tmp_path_factory.mktemp("site")) as start:
        service = start(url, users=people.tables())
        yield service
    unexpected = ("Traceback", "request_failed", "stream_failed")
    assert not [line for line in service.log().splitlines() if any(word in line for word in unexpected)]


@pytest.fixture(scope="session")
def whatsapp(site: Service) -> httpx.Client:
    return site.api("meta-main", "whatsapp")


@pytest.fixture(scope="session")
def sms(site: Service) -> httpx.Client:
    return site.api("twilio-main", "sms")
