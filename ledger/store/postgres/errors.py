"""What can be wrong with the embedded database. Each text says what to do.

EmbeddedError
├── InstallationUnusable
├── DataDirectoryUnusable
├── DataDirectoryInUse
└── PostgresDidNotStart
"""


class EmbeddedError(Exception):
    """The embedded database cannot be used: do what the text says, or set LEDGER_DATABASE_URL."""


class InstallationUnusable(EmbeddedError):
    """The programs or the system user are missing: reinstall, or run as a normal user."""


class DataDirectoryUnusable(EmbeddedError):
    """The data directory cannot hold the database: mend it, or set LEDGER_DATA_DIR to another one."""


class DataDirectoryInUse(EmbeddedError):
    """Another process runs the embedded database in this data directory: use that one, or end it first."""


class PostgresDidNotStart(EmbeddedError):
    """PostgreSQL ended or did not answer: see postgres.log in the data directory."""
