"""Certificates and offers of a subscription: opened in the background, within bounds, and never waited for."""

import threading

import pytest
from structlog.testing import capture_logs

from ledger.http import opening
from ledger.http.opening import AT_ONCE_MAX, BYTES_MAX, KEPT_MAX, REST_SECONDS, NotOpened, Opener
from tests.plugins.service import eventually
from tests.providers.senders_more import configured_certificate

CERTIFICATE = configured_certificate(b"opened")
URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"


class Web:
    """Addresses and what is there. Asked for one that is missing, it says that it cannot be opened."""

    def __init__(self, pages: dict[str, bytes], *, is_open: bool = True) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        self.gate.wait(10)
        if url not in self.pages:
            raise NotOpened("nothing there")
        return self.pages[url]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def url(number: int) -> str:
    return f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{number}.pem"


def idle(opener: Opener) -> bool:
    return not opener._open


def test_a_certificate_is_not_at_hand_at_first_and_soon_is() -> None:
    web = Web({URL: CERTIFICATE}, is_open=False)
    opener = Opener(web)

    first = opener.certificate(URL)
    web.gate.set()

    assert first is None
    assert eventually(lambda: opener.certificate(URL), "the certificate is at hand") == CERTIFICATE


def test_a_certificate_is_fetched_once_however_often_it_is_asked_for() -> None:
    web = Web({URL: CERTIFICATE}, is_open=False)
    opener = Opener(web)

    for _ in range(10):
        opener.certificate(URL)
    web.gate.set()
    eventually(lambda: opener.certificate(URL), "the certificate is at hand")

    assert opener.certificate(URL) == CERTIFICATE
    assert web.asked == [URL]


@pytest.mark.parametrize("content", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_not_kept(content: bytes) -> None:
    opener = Opener(Web({URL: content}))

    opener.certificate(URL)

    eventually(lambda: idle(opener), "the address has been opened")
    assert opener.certificate(URL) is None


def test_an_address_that_could_not_be_opened_rests_and_is_tried_again() -> None:
    web, clock = Web({}), Clock()
    opener = Opener(web, clock)
    opener.certificate(URL)
    eventually(lambda: idle(opener), "the address has been tried")

    opener.certificate(URL)
    tried_at_once = len(web.asked)
    web.pages[URL] = CERTIFICATE
    clock.seconds += REST_SECONDS + 1

    assert tried_at_once == 1
    assert eventually(lambda: opener.certificate(URL), "the certificate is at hand") == CERTIFICATE


def test_only_so_many_addresses_are_open_at_once() -> None:
    web = Web({}, is_open=False)
    opener = Opener(web)

    for number in range(AT_ONCE_MAX + 5):
        opener.certificate(url(number))
    eventually(lambda: len(web.asked) >= AT_ONCE_MAX, "all that may be open are")

    assert len(web.asked) == AT_ONCE_MAX
    web.gate.set()
    eventually(lambda: idle(opener), "all have been tried")


def test_only_so_many_certificates_are_kept() -> None:
    opener = Opener(Web({url(number): CERTIFICATE for number in range(KEPT_MAX + 1)}))

    for number in range(KEPT_MAX + 1):
        eventually(lambda number=number: opener.certificate(url(number)), "the certificate is at hand")

    assert len(opener._certificates) == KEPT_MAX


def test_an_offer_is_accepted_by_opening_its_address() -> None:
    web = Web({URL: b"<ok/>"})
    opener = Opener(web)

    with capture_logs() as logs:
        opener.confirm("aws-main", URL)
        eventually(lambda: idle(opener), "the address has been opened")

    assert web.asked == [URL]
    assert [(each["event"], each["account"]) for each in logs] == [("subscription_confirmed", "aws-main")]


def test_an_offer_whose_address_cannot_be_opened_is_told_in_the_log_without_the_address() -> None:
    opener = Opener(Web({}))

    with capture_logs() as logs:
        opener.confirm("aws-main", URL)
        eventually(lambda: idle(opener), "the address has been tried")

    assert [each["event"] for each in logs] == ["address_not_opened", "subscription_missed"]
    assert URL not in str(logs)


def test_a_page_is_read_over_tls_only() -> None:
    with pytest.raises(NotOpened, match="not https"):
        opening.fetch("http://127.0.0.1:9/x.pem")


def test_a_server_that_cannot_be_reached_or_trusted_is_no_page() -> None:
    with pytest.raises(NotOpened):
        opening.fetch("https://127.0.0.1:9/x.pem")


def test_bounds_are_those_that_a_certificate_needs() -> None:
    assert len(CERTIFICATE) * 10 < BYTES_MAX
