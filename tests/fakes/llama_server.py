"""A stand-in for a native `llama-server`: its flags, its environment, its ways to fail.

The alias names what happens: `good`, `slow` (never done loading), `broken` (cannot be loaded),
`crash` (dies of a signal), `squat` (the first start finds its port taken). The file that FAKE_SEEN
names gets a line of JSON for each start: the flags, the variables and the process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from tests.fakes.openai_engine import serve


def main() -> None:
    flags = argparse.ArgumentParser()
    for name in ("-m", "--alias", "--host", "--port", "-t", "-c", "-np"):
        flags.add_argument(name, required=True)
    given = flags.parse_args()
    kind, seen = given.alias, Path(os.environ["FAKE_SEEN"])
    first = not seen.exists()
    variables = {k: v for k, v in os.environ.items() if k.startswith("LLAMA_ARG_")}
    with seen.open("a") as log:
        log.write(json.dumps({**vars(given), "pid": os.getpid(), "variables": variables}) + "\n")
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGABRT)
    if kind == "broken":
        print("0.00.027.455 E llama_model_load: error loading model: it is broken", file=sys.stderr)
        raise SystemExit(1)
    if kind == "slow":
        time.sleep(3600)
    if kind == "squat" and first:
        squat(int(given.port))
    asyncio.run(serve("127.0.0.1", int(given.port), "echo", os.environ["LLAMA_API_KEY"]))


def squat(port: int) -> None:
    """Have another process listen on the port, then end as llama-server does when it cannot."""
    listener = socket.create_server(("127.0.0.1", port))
    if os.fork():
        os._exit(1)
    with listener:
        time.sleep(3)
    os._exit(0)


if __name__ == "__main__":
    main()
