"""What every test runs under. Fixtures live in `tests/plugins`."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.plugins.postgres", "tests.plugins.ledger", "tests.plugins.service", "tests.plugins.chromium"]

# No profile measures time: how long an example takes is the machine's business. The default one tries the same examples
# every time; the others look for new ones, and print what makes a failure again.
_ALL = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("default", max_examples=100, derandomize=True, database=None, **_ALL)
settings.register_profile("check", max_examples=500, **_ALL)
settings.register_profile("nightly", max_examples=20_000, **_ALL)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
