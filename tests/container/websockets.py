"""Idle websockets: opens a number of them, and tells how and when each was ended.

    python3 websockets.py COUNT HOST PATH

Prints "open" when all are, and at the end a list of pairs: seconds since then, and the code of the Close frame, which
is answered; 0 where a connection ended without one.
"""

import asyncio
import json
import resource
import sys
import time
from contextlib import suppress

HEAD = """\
GET {path} HTTP/1.1
Host: {host}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==

""".replace("\n", "\r\n")
AT_ONCE = 50
"""Connections that are opened at the same time."""


async def connect(host: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", 80)
    writer.write(HEAD.format(path=path, host=host).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(head)
    return reader, writer


async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[float, int]:
    """Return when what came, the code of a Close frame or 0 for anything else; RFC 6455, 5.5.1."""
    code = 0
    try:
        head = await reader.readexactly(2)
        payload = await reader.readexactly(head[1])
        if head[0] == 0x88:
            code = int.from_bytes(payload[:2], "big")
            writer.write(bytes([0x88, 0x82, 0, 0, 0, 0]) + payload[:2])
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    seconds = time.monotonic()
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
    return seconds, code


async def main(count: int, host: str, path: str) -> None:
    sockets: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    while len(sockets) < count:
        sockets += await asyncio.gather(*(connect(host, path) for _ in range(min(AT_ONCE, count - len(sockets)))))
    print("open", flush=True)  # noqa: T201
    begin = time.monotonic()
    ends = await asyncio.gather(*(end(*streams) for streams in sockets))
    print(json.dumps([(seconds - begin, code) for seconds, code in ends]))  # noqa: T201


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
