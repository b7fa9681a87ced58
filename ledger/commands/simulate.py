"""`simulate`: plays providers and a sending system at a running server, then checks where every message stands."""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from ledger import main
from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, parts, print_json
from ledger.commands.simulation.model import Account, run_of, tag
from ledger.commands.simulation.performance import Result, WrongAnswer, perform
from ledger.commands.simulation.script import SHARES
from ledger.commands.simulation.traffic import Play, compose
from ledger.config import Settings
from ledger.domain.status import Channel, Style
from ledger_client.errors import Unreachable
from ledger_client.transport import Transport

MESSAGES_MAX: Final = 100_000
MESSAGES: Final = 300
SEED: Final = 1
SECONDS: Final = 10.0
SECONDS_MAX: Final = 86_400
#: An older run could not be played again: registrations are recognised for a day.
_RUN_AGE_MAX: Final = timedelta(hours=23)
_REACH_SECONDS: Final = 3.0
_SHOWN_MAX: Final = 20

Keys = dict[tuple[str, str], str]


def add_to(commands: Any) -> None:
    simulate = commands.add_parser("simulate", help="play signed provider traffic at a running server and check it")
    simulate.add_argument("--url", help="where the server answers; default: host and port of the settings")
    simulate.add_argument("--messages", type=int, default=MESSAGES, help=f"how many, 1 to {MESSAGES_MAX}")
    simulate.add_argument("--seed", type=int, default=SEED, help="another seed, another play")
    simulate.add_argument(
        "--run", dest="again", help="the run of an earlier play, to play the very same requests again"
    )
    simulate.add_argument("--seconds", type=float, default=SECONDS, help="how long to play; 0: as fast as it goes")
    simulate.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="ACCOUNT/CHANNEL=KEY",
        help="an API key to use; without any, keys are made and revoked in the end",
    )
    simulate.add_argument("--json", action="store_true")
    simulate.set_defaults(run=_simulate)


def _simulate(told: argparse.Namespace) -> int:
    run = _run(told.again)
    if not 1 <= told.messages <= MESSAGES_MAX or not 0 <= told.seconds <= SECONDS_MAX:
        bounds = f"--messages must be from 1 to {MESSAGES_MAX}, --seconds from 0 to {SECONDS_MAX}"
        raise CommandFailed(bounds, USAGE)
    if not told.json:
        print(f"seed {told.seed}, run {tag(run)}", flush=True)
    settings = main.read(_environment(told.url))
    url = told.url or address(settings)
    play = compose(actors(settings), told.messages, told.seed, run)
    require_reachable(url)
    try:
        with Transport(url) as client, _keys(settings, play, told.key) as keys:
            result = perform(play, client, keys, seconds=told.seconds)
    except Unreachable as error:
        raise CommandFailed(str(error)) from error
    if told.json:
        print_json(result)
    else:
        show(result)
    return FOUND if result.wrong else DONE


def new_run() -> datetime:
    return run_of(tag(datetime.now(UTC)))


def _run(text: str | None) -> datetime:
    now = new_run()
    if text is None:
        return now
    try:
        run = run_of(text)
    except ValueError:
        raise CommandFailed("--run must be one that an earlier play has printed", USAGE) from None
    if not now - _RUN_AGE_MAX <= run <= now:
        raise CommandFailed("--run must be of the last 23 hours: registrations are recognised for a day", USAGE)
    return run


def _environment(url: str | None) -> Mapping[str, str]:
    """Let callback addresses that are not configured agree with the server's, which has them from its own port."""
    try:
        port = urlsplit(url).port if url else None
    except ValueError:
        raise CommandFailed("--url must be an http:// or https:// URL", USAGE) from None
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise CommandFailed("--url must be an http:// or https:// URL", USAGE)
    return {**os.environ, **({"LEDGER_PORT": str(port)} if port else {})}


def address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def actors(settings: Settings) -> list[Account]:
    """Return the first account at each provider that can be played. Raises CommandFailed if there is none."""
    found: dict[str, Account] = {}
    for account in settings.accounts.values():
        if account.provider in SHARES:
            played = Account(
                name=account.name,
                provider=account.provider,
                secrets=tuple(value for secret in account.secrets if (value := secret.reveal())),
                public_url=account.public_url,
                delivery_wins=account.conflicts == "delivery-wins",
            )
            found.setdefault(account.provider, played)
    if not found:
        raise CommandFailed(f"no account in {settings.config} at any of {', '.join(SHARES)}: nothing to play", USAGE)
    return [found[provider] for provider in SHARES if provider in found]


def require_reachable(url: str) -> None:
    """Raise CommandFailed unless a ready server answers."""
    try:
        with Transport(url, patience_seconds=_REACH_SECONDS) as client:
            answer = client.ask("GET", "/readyz")
    except Unreachable as error:
        raise CommandFailed(f"{error}; start the server with scripts/run") from error
    if answer.status != 200:
        raise CommandFailed(f"the server at {url} is not ready: /readyz answers {answer.status}")


@contextmanager
def _keys(settings: Settings, play: Play, given: Sequence[str]) -> Iterator[Keys]:
    """Yield a key for each account and channel: those given, or new ones that are revoked in the end."""
    if given:
        yield _given(play.keys, given)
        return
    settings = main.with_secrets(settings)
    with parts(told=settings) as built:
        made = make_keys(built, play.keys)
    try:
        yield {place: secret for place, (_, secret) in made.items()}
    finally:
        with parts(told=settings) as built:
            for id_, _ in made.values():
                built.keys.revoke(id_)


def make_keys(built: main.Parts, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Make a key for each account and channel; return their ids and the keys."""
    made = {}
    for account, channel in sorted(places):
        key, secret = built.keys.create(account, Channel(channel), Style.UNIFIED)
        made[account, channel] = (key.id, secret)
    return made


def _given(places: set[tuple[str, str]], given: Sequence[str]) -> Keys:
    keys: Keys = {}
    for text in given:
        place, _, key = text.partition("=")
        account, _, channel = place.partition("/")
        keys[account, channel] = key
    missing = [f"{account}/{channel}" for account, channel in sorted(places) if not keys.get((account, channel))]
    if missing:
        raise CommandFailed(f"--key ACCOUNT/CHANNEL=KEY is missing for {', '.join(missing)}", USAGE)
    return keys


def show(result: Result) -> None:
    """Print what came of it, for people."""
    answered = ", ".join(f"{status} x {times}" for status, times in result.answered.items())
    print(
        f"{result.messages} messages, {result.requests} requests in {result.seconds:.1f} s"
        f" ({result.requests_per_second:.0f} a second)\n"
        f"{result.duplicates} of them repeats, {result.unwelcome} to be turned away, {result.retried} sent again\n"
        f"answered: {answered}\n"
        f"{result.conflicts} messages whose reports contradict one another"
    )
    if not result.wrong:
        print(f"{result.checked} messages checked: every one stands where it must")
        return
    print(f"{result.checked} messages checked: {len(result.wrong)} things are not as they must be")
    for wrong in result.wrong[:_SHOWN_MAX]:
        if isinstance(wrong, WrongAnswer):
            print(f"  {wrong.target}: answered {wrong.answers}, must be {wrong.must_answer}")
        else:
            print(f"  message {wrong.message_id} of {wrong.account} ({wrong.story}; {wrong.sender}):")
            print("\n".join(f"    {difference}" for difference in wrong.differences))
    if len(result.wrong) > _SHOWN_MAX:
        print(f"  and {len(result.wrong) - _SHOWN_MAX} more; --json lists all")
    if any(
        isinstance(wrong, WrongAnswer) and (wrong.must_answer, wrong.answers) == (200, 401) for wrong in result.wrong
    ):
        print("Callbacks refused as not authentic: do server and this command read the same secrets and public_url?")
