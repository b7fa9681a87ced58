"""Garbage: what no provider ever sends. `adapters` feeds it to adapters, `fuzz` makes it and counts."""
