"""What every test runs under. Fixtures live in `tests/plugins`."""

import os

from hypothesis import settings

pytest_plugins = ["tests.plugins.postgres", "tests.plugins.ledger", "tests.plugins.service", "tests.plugins.chromium"]

settings.register_profile("default", max_examples=100, deadline=None)
settings.register_profile("check", max_examples=500, deadline=None)
settings.register_profile("nightly", max_examples=20_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
