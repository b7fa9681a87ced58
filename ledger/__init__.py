"""Status Ledger: what happened to a message, why, and the proof."""

__version__ = "0.1.0"
