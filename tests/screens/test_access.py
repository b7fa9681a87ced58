"""Roles, and the bounds of what somebody sees."""

from datetime import UTC, datetime

import pytest

from ledger.domain.status import Channel
from ledger.screens.access import PERMISSIONS, Permission, Role, Viewer

PLACES = [("meta-main", "whatsapp"), ("twilio-main", "sms"), ("vonage", "sms"), ("vonage", "whatsapp")]


def a_viewer(**told):
    return Viewer(**{"name": "lee", "role": Role.OPERATOR, "expires_at": datetime(2026, 1, 1, tzinfo=UTC)} | told)


def test_every_role_has_its_permissions():
    assert set(PERMISSIONS) == set(Role)
    assert PERMISSIONS[Role.VIEWER] < PERMISSIONS[Role.AUDITOR] < PERMISSIONS[Role.OPERATOR]


def test_a_viewer_may_change_nothing_and_an_auditor_neither():
    for role in (Role.VIEWER, Role.AUDITOR):
        assert not PERMISSIONS[role] & {Permission.RESOLVE, Permission.REBUILD}


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ({}, PLACES),
        ({"accounts": frozenset({"vonage"})}, [("vonage", "sms"), ("vonage", "whatsapp")]),
        ({"accounts": frozenset({"vonage"}), "channel": Channel.SMS}, [("vonage", "sms")]),
        ({"accounts": frozenset({"none"})}, []),
    ],
)
def test_what_is_seen_is_bounded_by_accounts_and_channel(told, seen):
    assert a_viewer(**told).scopes(PLACES) == seen


def test_what_concerns_everybody_is_for_those_who_see_everything():
    assert a_viewer().may(Permission.REBUILD)
    assert not a_viewer(accounts=frozenset({"vonage"})).may(Permission.REBUILD)
    assert not a_viewer(channel=Channel.SMS).may(Permission.REBUILD)
    assert a_viewer(accounts=frozenset({"vonage"})).may(Permission.RESOLVE)
