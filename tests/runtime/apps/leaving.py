"""Cannot be imported, and takes its time to leave."""

import atexit
import os
import time
from pathlib import Path


def slowly() -> None:
    (Path(os.environ["LAB"]) / "leaving").touch()
    time.sleep(1)


atexit.register(slowly)
raise ImportError("no such luck")
