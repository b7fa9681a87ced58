"""Providers and a sending system, played from a script; and a judge who read the script and nothing of the ledger's."""
