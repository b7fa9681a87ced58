"""Nothing is ever sent into a private network, however its address is written or comes about."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.status import Status
from ledger.outbound.guard import Guard, Refused, Resolve, Unresolved, networks
from ledger.outbound.webhooks import Client
from tests.outbound.conftest import LOOPBACK, Rig
from tests.outbound.receiver import Receiver


def names(*answers: Sequence[str]) -> Resolve:
    """Return a name server's answers, one after the other; the last one for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


@pytest.fixture
def listener() -> Iterator[Callable[[], int]]:
    """Listens on every local address, IPv6 too where there is any; tells how many have connected, and its port."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    server = socket.create_server(("", 0), family=family, dualstack_ipv6=family is socket.AF_INET6)
    connected: list[object] = []

    def accept() -> None:
        while True:
            try:
                connected.append(server.accept())
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    count = lambda: len(connected)  # noqa: E731
    count.port = server.getsockname()[1]  # type: ignore[attr-defined]
    yield count
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


HOSTILE = [
    "https://127.0.0.1:{port}/",
    "https://127.0.0.1:443/",
    "https://127.1/",
    "https://127.0.1:8443/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::1]:8443/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25lo]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://localhost/",
    "https://localhost.localdomain/",
    "https://metadata.google.internal/",
    "https://printer.local/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com:22/",
    "https://example.com:{port}/",
    "http://example.com/",
    "http://127.0.0.1:{port}/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "https:///nowhere",
    "https://",
    "https://exa mple.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/#fragment",
    "https://example.com:99999/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://example.com/\r\nHost: 127.0.0.1",
    "//example.com/",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_and_nothing_is_connected_to(url: str, listener: Callable[[], int]) -> None:
    port = listener.port  # type: ignore[attr-defined]
    client = Client(Guard(), seconds_max=2)

    with pytest.raises(Refused):
        asyncio.run(client.send("POST", url.format(port=port), [], b""))

    assert listener() == 0


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "64:ff9b::a00:1", "169.254.169.254", "0.0.0.1"],
)
def test_a_name_that_resolves_into_a_private_network_is_refused(address: str, listener: Callable[[], int]) -> None:
    client = Client(Guard(resolve=names([address])), seconds_max=2)

    with pytest.raises(Refused):
        asyncio.run(client.send("POST", "https://hooks.example.com/", [], b""))

    assert listener() == 0


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    guard = Guard(resolve=names(["93.184.216.34", "10.0.0.1"]))

    with pytest.raises(Refused):
        asyncio.run(guard.addresses("hooks.example.com", 443, is_plain=False))


def test_a_public_name_is_called_at_the_addresses_that_were_checked() -> None:
    guard = Guard(resolve=names(["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]))

    found = asyncio.run(guard.addresses("hooks.example.com", 443, is_plain=False))

    assert found == ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]


def test_a_name_without_an_address_is_no_refusal() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror

    for answer in (resolve, names([])):
        with pytest.raises(Unresolved):
            asyncio.run(Guard(resolve=answer).addresses("hooks.example.com", 443, is_plain=False))


@pytest.mark.parametrize(("port", "is_plain"), [(22, False), (80, True), (443, True), (5432, False)])
def test_ports_and_plain_http_are_refused_for_what_resolves_to_the_public_network(port: int, is_plain: bool) -> None:
    guard = Guard([LOOPBACK], resolve=names(["93.184.216.34"]))

    with pytest.raises(Refused):
        asyncio.run(guard.addresses("hooks.example.com", port, is_plain=is_plain))


def test_a_name_that_is_rebound_between_check_and_retry_is_checked_again(rig: Rig, receiver: Receiver) -> None:
    """First it leads where it may, then into a private network: the retry looks again, and sends nothing there."""
    endpoint = rig.endpoint(url=receiver.url.replace("127.0.0.1", "hooks.example.com"))
    receiver.script = [lambda handler: handler.reply(500)]
    rig.report(Status.SENT)
    allowed = ip_network("127.0.0.1/32")  # the other address stands for a private network
    guard = Guard([allowed], resolve=names(["127.0.0.1"], ["127.0.0.2"]))

    rig.send(guard=guard)
    rig.pass_time(10)
    rig.send(guard=guard)

    assert len(receiver.received) == 1
    assert receiver.received[0].headers["host"].startswith("hooks.example.com")
    assert rig.outcomes(endpoint) == ["refused", "address_refused"]


def test_what_the_first_answer_says_is_connected_to_whatever_the_name_says_next(rig: Rig, receiver: Receiver) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    rig.endpoint(url=receiver.url.replace("127.0.0.1", "hooks.example.com"))
    rig.report(Status.SENT)

    rig.send(guard=Guard([LOOPBACK], resolve=resolve))

    assert len(receiver.received) == 1
    assert asked == ["hooks.example.com"]


def test_networks_are_read_from_a_list_and_anything_else_is_refused() -> None:
    assert networks("10.0.0.0/8, fd00::/8") == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    for text in ("10.0.0.0/33", "10.0.0.1/8", "example.com", "all"):
        with pytest.raises(ValueError, match="must be networks"):
            networks(text)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_an_address_that_is_called_is_global_and_carries_no_other(address: IPv4Address | IPv6Address) -> None:
    guard = Guard(resolve=names([str(address)]))
    try:
        asyncio.run(guard.addresses("hooks.example.com", 443, is_plain=False))
    except Refused:
        return

    assert address.is_global
    assert not any((address.is_multicast, address.is_reserved, address.is_link_local, address.is_loopback))
    if isinstance(address, IPv6Address):
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.integers(0, 2**32 - 1))
def test_an_address_inside_another_is_refused_whatever_it_is(number: int) -> None:
    for network in ("::ffff:0:0/96", "64:ff9b::/96", "::/96"):
        address = IPv6Address(int(ip_network(network).network_address) + number)

        with pytest.raises(Refused):
            asyncio.run(Guard(resolve=names([str(address)])).addresses("hooks.example.com", 443, is_plain=False))
