"""A stand-in for curl on machines that have none: the few options that the documentation uses.

-s -S -i -H HEADER -d DATA --data-binary DATA -X METHOD -o FILE -w FORMAT (with %{http_code}) URL. `@-` reads standard
input.
"""

import argparse
import http.client
import sys
from urllib.parse import urlsplit


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    for flag in ("-s", "-S", "-i"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    for option in ("-X", "-o", "-w"):
        parser.add_argument(option)
    parser.add_argument("url")
    told = parser.parse_args()

    headers = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in told.H)}
    body = sys.stdin.buffer.read() if told.data == "@-" else told.data.encode() if told.data is not None else None
    if body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    url = urlsplit(told.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.request(told.X or ("GET" if body is None else "POST"), target, body, headers)
    answer = connection.getresponse()
    content = answer.read()

    out = open(told.o, "wb") if told.o else sys.stdout.buffer  # noqa: SIM115  # ends with the process
    if told.i:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{n}: {v}" for n, v in answer.getheaders())]
        out.write("\r\n".join([*lines, "", ""]).encode())
    out.write(content)
    out.flush()
    if told.w:
        sys.stdout.write(told.w.replace("%{http_code}", str(answer.status)).replace("\\n", "\n"))


if __name__ == "__main__":
    main()
