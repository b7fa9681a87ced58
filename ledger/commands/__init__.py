"""The command line. Exit codes: 0 done, 1 failed, 2 bad usage, 3 found problems."""
