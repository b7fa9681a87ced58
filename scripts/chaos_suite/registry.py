"""All scenarios, in the order in which `all` runs them."""

from typing import Final

from scripts.chaos_suite import crash, database, power, races, simulated, soak, upgrade
from scripts.chaos_suite.scenarios import Scenario

SCENARIOS: Final[tuple[Scenario, ...]] = (
    simulated.SCENARIO,
    crash.SCENARIO,
    power.SCENARIO,
    races.SCENARIO,
    database.SCENARIO,
    upgrade.SCENARIO,
    soak.SCENARIO,
)
