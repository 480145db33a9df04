"""Pass listening sockets to a program as systemd does, sd_listen_fds(3).

activate.py FD[,FD...] PROGRAM [ARGUMENT...]
"""

import os
import sys

FIRST = 3

numbers = [int(text) for text in sys.argv[1].split(",") if text]
# Two steps: a descriptor may already stand where another one shall go.
parked = [os.dup(number) for number in numbers]
high = [os.dup2(number, 100 + at) for at, number in enumerate(parked)]
for at, number in enumerate(high):
    os.dup2(number, FIRST + at, inheritable=True)
os.closerange(FIRST + len(numbers), 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(numbers))
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
