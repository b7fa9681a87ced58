"""A witness of the tlog-witness protocol, on a socket of its own: it keeps the last checkpoint of each log, has every
step from there proved to it, and signs. `answers` are given first, whatever comes.
"""

import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger.proof import merkle
from ledger.proof.notes import SIGNATURE, PublicKey, Signer, opened
from ledger.wire.contract import Secret

NAME = "witness.example/w1"


class Witness:
    def __init__(self, *keys: PublicKey) -> None:
        self.keys = list(keys)
        self.signer = Signer(Secret(b"w" * 32))
        self.known: dict[str, tuple[int, bytes]] = {}
        self.taken: list[int] = []  #: sizes
        self.answers: list[int] = []  #: status codes to give before anything else
        self.url = ""

    def answer(self, body: str) -> tuple[int, str]:
        if self.answers:
            return self.answers.pop(0), ""
        proof, _, note = body.partition("\n\n")
        old, *lines = proof.split("\n")
        text = opened(note, self.keys)
        origin, size, root = text.split("\n")[:3]
        known = self.known.get(origin, (0, merkle.EMPTY))
        if old != f"old {known[0]}":
            return 409, f"{known[0]}\n"
        path = [b64decode(line, validate=True) for line in lines]
        if not merkle.is_consistent(known[0], int(size), known[1], b64decode(root), path):
            return 422, ""
        self.known[origin] = (int(size), b64decode(root))
        self.taken.append(int(size))
        return 200, SIGNATURE + self.signer.sign(text, NAME).rpartition(SIGNATURE)[2]


@contextmanager
def serving(witness: Witness) -> Iterator[Witness]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            status, answer = witness.answer(body) if self.path == "/add-checkpoint" else (404, "")
            self.send_response(status)
            self.send_header("content-type", "text/x.tlog.size" if status == 409 else "text/plain")
            self.send_header("content-length", str(len(answer.encode())))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            """The tests look at what the witness knows."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    witness.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield witness
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
