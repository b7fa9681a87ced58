"""A server that hostile requests go to, with an account for every provider, and somebody who goes on using it.

Whatever is sent: nothing may go wrong that the server's code did not expect, what it remembers of it must not grow, and
who uses it as it is meant is served all the while.
"""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.http.test_provider_requests import BY_NAME, accounts, name_of
from tests.plugins.postgres import cloned
from tests.plugins.service import Service, eventually, starting
from tests.providers.requests import NOW
from tests.surfaces.inbox import SECRET

#: The most memory that a server may ever have had. It has about a fifth of it when it starts.
PEAK_BYTES_MAX = 400 * 1024 * 1024
_PAUSE_SECONDS = 0.02
_UNEXPECTED = ("Traceback", "request_failed", "webhook_failed", "statement_poisoned", "canvas_failed")


class Target(NamedTuple):
    service: Service
    api: httpx.Client
    message_id: int


class Bystander(threading.Thread):
    """Delivers callbacks and reads messages, and notes what was answered."""

    def __init__(self, service: Service, api: httpx.Client) -> None:
        super().__init__(daemon=True)
        self.answers: list[object] = []
        self.has_ended = threading.Event()
        self._service = service
        self._key = api.headers["x-octopods-auth"]

    def run(self) -> None:
        case, number = BY_NAME["meta"], 0
        with self._service.another_client(self._key) as client:
            while not self.has_ended.wait(_PAUSE_SECONDS):
                number += 1
                request = case.request(case.item(f"bystander-{number}", "sent"))
                signed = {"x-hub-signature-256": request.headers.first("x-hub-signature-256") or b""}
                headers = {"content-type": "application/json", **signed}
                try:
                    told = client.post(f"/webhooks/{name_of(case)}", content=request.body, headers=headers)
                    read = client.get("/v1/messages", params={"provider_message_id": f"bystander-{number}"})
                    self.answers += [told.status_code, read.status_code, len(read.json()["items"])]
                except (httpx.HTTPError, KeyError) as error:
                    self.answers.append(repr(error))


@pytest.fixture(scope="session")
def target(postgres_url: str, template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("hostile")
    clock = directory / "now"
    clock.write_text(NOW.isoformat(), "utf-8")
    app = {"secrets": [SECRET], "workspaces": {"abcd1234": ["meta"]}}
    with cloned(postgres_url, template_url) as url, starting(lambda: directory) as start:
        service = start(url, accounts=accounts(), clock=clock, intercom=app)
        api = service.api("meta", "whatsapp")
        made = api.post("/v1/messages", json={"channel": "whatsapp"})
        bystander = Bystander(service, api)
        bystander.start()
        eventually(lambda: bystander.answers, "the bystander is served")
        yield Target(service, api, made.json()["message_id"])
        bystander.has_ended.set()
        bystander.join()
        peak = peak_bytes(service)
        assert service.client().get("/readyz").status_code == 200
    assert not [line for line in service.log().splitlines() if any(word in line for word in _UNEXPECTED)]
    assert set(bystander.answers) == {200, 1}
    assert peak < PEAK_BYTES_MAX


def peak_bytes(service: Service) -> int:
    """Return the most memory that a server ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text("utf-8"))
    assert found is not None
    return int(found[1]) * 1024
