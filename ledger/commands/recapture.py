"""`recapture`: reads kept requests and unknown words again, after an adapter or a vocabulary has changed."""

import argparse
import threading
from typing import Any, Final

import msgspec

from ledger.commands.common import DONE, CommandFailed, parts, print_json
from ledger.ingest import reread
from ledger.ingest.accept import Intake, intakes
from ledger.ingest.writer import Job, Statement, Writer
from ledger.main import Parts
from ledger.providers import PROVIDERS
from ledger.store import rereading
from ledger.store.rereading import Unrecognised

_JOB_STATEMENTS: Final = 200
_WAIT_SECONDS: Final = 30


class Reread(msgspec.Struct):
    """What a run has found and done."""

    captures: int = 0  #: that wait
    captures_read: int = 0  #: of them, those that can be read now
    observations: int = 0  #: whose word was not known
    observations_understood: int = 0
    appended: int = 0  #: events, or in a dry run statements that would be tried
    on_record: int = 0  #: statements that an earlier run, or a later report, has recorded
    not_configured: int = 0  #: of accounts that are not in the configuration


def add_to(commands: Any) -> None:
    again = commands.add_parser("recapture", help="read kept requests and unknown words again, after an update")
    again.add_argument("--dry-run", action="store_true", help="only say what would be recorded")
    again.add_argument("--json", action="store_true")
    again.set_defaults(run=_recapture)


def _recapture(told: argparse.Namespace) -> int:
    with parts() as built:
        found = _Run(built, dry_run=told.dry_run).run()
    if told.json:
        print_json(found)
        return DONE
    would = "would be " if told.dry_run else ""
    print(f"{found.captures_read} of {found.captures} kept requests can be read now")
    print(f"{found.observations_understood} of {found.observations} observations of unknown words are understood now")
    print(f"{found.appended} observations {would}recorded, {found.on_record} were on record")
    if found.not_configured:
        print(f"{found.not_configured} belong to accounts that are not configured here")
    return DONE


class _Run:
    def __init__(self, built: Parts, *, dry_run: bool) -> None:
        self._built = built
        self._dry_run = dry_run
        self._found = Reread()
        settings = built.settings
        self._intakes = intakes(settings.accounts, PROVIDERS, built.names, keeps_items=settings.keeps_items)

    def run(self) -> Reread:
        writer = self._built.writer(_ended)
        if not self._dry_run:
            writer.start()
        try:
            self._captures(writer)
            self._observations(writer)
        finally:
            if not self._dry_run:
                writer.close()
        return self._found

    def _captures(self, writer: Writer) -> None:
        found, ledger = self._found, self._built.ledger
        for kept in rereading.waiting(ledger):
            found.captures += 1
            intake = self._intake(kept.account)
            statements = None if intake is None else reread.of_capture(intake, kept)
            if statements is None:
                continue
            found.captures_read += 1
            self._record(writer, statements)
            if not self._dry_run:
                rereading.settle(ledger, kept.capture_id)

    def _observations(self, writer: Writer) -> None:
        statements: list[Statement] = []
        for told in rereading.unrecognised(self._built.ledger):
            if not isinstance(told, Unrecognised):
                continue
            self._found.observations += 1
            intake = self._intake(told.event.account)
            statement = None if intake is None else reread.of_observation(intake, told)
            if statement is not None:
                self._found.observations_understood += 1
                statements.append(statement)
            if len(statements) >= _JOB_STATEMENTS:
                self._record(writer, statements)
                statements = []
        self._record(writer, statements)

    def _intake(self, account: str) -> Intake | None:
        intake = self._intakes.get(account)
        self._found.not_configured += intake is None
        return intake

    def _record(self, writer: Writer, statements: list[Statement]) -> None:
        if not statements:
            return
        if self._dry_run:
            self._found.appended += len(statements)
            return
        job = Job(statements)
        job.waiter = threading.Event()
        writer.submit(job)
        if not job.waiter.wait(_WAIT_SECONDS):
            raise CommandFailed("the ledger did not answer: run it again, what is on record is found")
        if job.error is not None:
            raise CommandFailed(f"not recorded ({type(job.error).__name__}): run it again")
        assert job.done is not None  # noqa: S101  # a job without an error has been done
        self._found.appended += len(job.done.events)
        self._found.on_record += job.done.redelivered


def _ended(jobs: list[Job]) -> None:
    for job in jobs:
        job.waiter.set()
