"""Deterministic simulation: the real decide, writer and feed over a simulated store, network and processes.

One seed is one history. `world` says what happens in it and what must hold, `loop` is time, `store` is the database as
the writer sees it, `following` the same as the feed sees it, `planted` the errors that the checks must find, `runs`
runs many seeds. Nothing here reads a clock, and no decision depends on random bytes of the system.
"""
