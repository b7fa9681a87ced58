"""What `scripts/run --demo` runs: the service, and beside it a guide who shows it and plays traffic at it.

    python -m ledger.commands.demo [ARGUMENTS OF serve]

This process becomes `serve`, so that signals, exit code and lifetime are the service's own. The guide is a process that
reads what `serve` prints, passes it on, begins at the ready line, and ends with the service.
"""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from ledger import main
from ledger.commands import serve, simulate
from ledger.commands.common import DONE, USAGE, CommandFailed, parts
from ledger.commands.simulation.performance import perform
from ledger.commands.simulation.traffic import Play, compose
from ledger.config import BadSettings, Settings
from ledger.store.application import StoreUnavailable
from ledger.store.embedded import EmbeddedError
from ledger.store.keys import UnknownKey
from ledger_client.errors import Stopped, Unreachable
from ledger_client.transport import Transport

_GUIDE: Final = "--guide"
_READY: Final = "status-ledger is ready on "
#: How long the guide takes to leave the terminal as it was.
_LEAVE_SECONDS: Final = 2.0
_ACCOUNTS: Final = """\
# Accounts of `scripts/run --demo`, made up at its first start. The secrets are worth nothing elsewhere.

[accounts.demo-whatsapp]
provider = "meta"
channel = "whatsapp"
secrets = ["{}"]
verify_token = "{}"
public_url = "https://demo.example.com/webhooks/demo-whatsapp"

[accounts.demo-sms]
provider = "twilio"
channel = "sms"
secrets = ["{}"]
public_url = "https://demo.example.com/webhooks/demo-sms"

[accounts.demo-viber]
provider = "viber"
channel = "viber"
secrets = ["{}"]
public_url = "https://demo.example.com/webhooks/demo-viber"
"""


def demonstrate(arguments: Sequence[str]) -> NoReturn:
    """Start the guide and become `serve`. Raises BadSettings."""
    parser = argparse.ArgumentParser(prog="status-ledger")
    serve.add_to(parser.add_subparsers())
    told = parser.parse_args(["serve", *arguments])  # ends here with what serve would say, if it would not take them
    environ = _with_accounts(os.environ)
    listens = {"LEDGER_HOST": told.host, "LEDGER_PORT": told.port}  # callback addresses may follow from these
    environ |= {name: str(value) for name, value in listens.items() if value is not None}
    if sys.stderr.isatty():
        environ.setdefault("LEDGER_LOG_FORMAT", "console")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the guide, until it knows what to do about it
    guide = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        [sys.executable, "-m", "ledger.commands.demo", _GUIDE], stdin=subprocess.PIPE, env=environ
    )
    assert guide.stdin is not None  # noqa: S101  # a pipe was asked for
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(guide.stdin.fileno(), sys.stdout.fileno())
    os.execve(sys.executable, [sys.executable, "-m", "ledger", "serve", *arguments], environ)  # noqa: S606


def _with_accounts(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with an accounts file: the one there is, else one made for the demo."""
    settings = main.read(environ)
    if environ.get("LEDGER_CONFIG") or settings.config.exists():
        return dict(environ)
    path = settings.data_dir / "demo.toml"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_ACCOUNTS.format(*(secrets.token_hex(24) for _ in range(_ACCOUNTS.count("{}")))))
    return {**environ, "LEDGER_CONFIG": str(path)}


# The guide ------------------------------------------------------------------------------------------------------------


def guide() -> None:
    """Pass on what the service prints; once it is ready, show it; stay until it ends."""
    leaving, tours = threading.Event(), []
    signal.signal(signal.SIGINT, lambda *_: leaving.set())  # Ctrl-C ends the tour, and the service, which ends us
    for line in sys.stdin:
        print(line, end="", flush=True)
        if line.startswith(_READY):
            url = line.removeprefix(_READY).strip().replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
            tours.append(threading.Thread(target=_show, args=(Transport(url, stopped=leaving),), daemon=True))
            tours[-1].start()
    leaving.set()
    for tour in tours:
        tour.join(_LEAVE_SECONDS)


def _show(client: Transport) -> None:
    try:
        settings = main.settings()
        play = compose(simulate.actors(settings), simulate.MESSAGES, simulate.SEED, simulate.new_run())
        keys = _new_keys(settings, play)
        rows = [f"  {account:<16}{channel:<10}{key}" for (account, channel), key in keys.items()]
        first = play.lines[0].message
        key = keys[first.account.name, first.channel]
        print(_WELCOME.format(url=client.url, config=settings.config, keys="\n".join(rows), key=key), flush=True)
        with client:
            simulate.show(perform(play, client, keys, seconds=simulate.SECONDS))
        print(f"\nThe service goes on at {client.url}. Ctrl-C ends it.", flush=True)
    except Stopped:
        pass
    except (BadSettings, CommandFailed, EmbeddedError, StoreUnavailable, Unreachable) as error:
        print(f"status-ledger: the demo is over, the service goes on: {error}", file=sys.stderr, flush=True)


def _new_keys(settings: Settings, play: Play) -> simulate.Keys:
    """Make the keys that the play needs; those that the demo made at its last start end."""
    path = settings.data_dir / "demo-keys"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with parts(told=settings) as built:
        for id_ in path.read_text().split() if path.exists() else ():
            with suppress(UnknownKey):
                built.keys.revoke(id_)
        made = simulate.make_keys(built, play.keys)
    path.write_text("".join(f"{id_}\n" for id_, _ in made.values()))
    return {place: key for place, (_, key) in made.items()}


_WELCOME: Final = """
Every endpoint, described:  {url}/docs
Accounts and their secrets: {config}
API keys, shown this once:
{keys}

Try, in another terminal:
  curl -s -H 'X-Octopods-Auth: {key}' '{url}/v1/messages?limit=3'
  curl -s -H 'X-Octopods-Auth: {key}' '{url}/v1/messages?conflict=open'
  curl -s -H 'X-Octopods-Auth: {key}' '{url}/v1/messages?status=FAILED&limit=3'
  .venv/bin/status-ledger history MESSAGE_ID

Now messages are sent, and three providers report on them: late, twice, out of order, and some of it forged.
"""


def _main(arguments: Sequence[str]) -> int:
    if list(arguments) == [_GUIDE]:
        guide()
        return DONE
    try:
        demonstrate(arguments)
    except BadSettings as error:
        for problem in error.problems:
            print(f"status-ledger: {problem}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
