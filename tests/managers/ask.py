"""Ask a unix socket, or ``HOST:PORT``, for a path, and print the answer: ``python ask.py ADDRESS PATH``."""

import http.client
import socket
import sys

address, path = sys.argv[1:]
if ":" in address:
    connected = socket.create_connection(("127.0.0.1", int(address.partition(":")[2])), 60)
else:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(address)
with connected:
    connection = http.client.HTTPConnection("shop.test")
    connection.sock = connected
    connection.request("GET", path)
    response = connection.getresponse()
    sys.stdout.write(response.read().decode())
sys.exit(response.status != http.HTTPStatus.OK)
