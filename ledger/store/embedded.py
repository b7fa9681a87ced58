from contextlib import contextmanager


class EmbeddedError(Exception):
    pass


@contextmanager
def attach(d, on_event):
    yield "postgresql://postgres:@/postgres?host=/tmp/pgtest"


def running_url(d):
    return None
