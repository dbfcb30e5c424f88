"""The whole way once, as a user would go it: `python scripts/demo.py FOLDER`.

Makes a workspace of the shipped recipe, runs the chain, serves the release, asks it three
questions over HTTP (the last one streamed), and stops the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

RESIDENCY = [sys.executable, "-m", "residency"]
QUESTIONS = (
    "hi i need to move my appointment on thursday to next week pls",
    "Me quedan dos pastillas de la presión, ¿me pueden surtir la receta hoy?",
    "My father's face is drooping on one side and he can't lift his arm, what do I do?",
)


def main() -> int:
    folder = Path(sys.argv[1])
    if not (folder / "residency.toml").exists():
        subprocess.run([*RESIDENCY, "init", str(folder)], check=True)
    start = time.monotonic()
    code = subprocess.run([*RESIDENCY, "run", "--workspace", str(folder)], check=False).returncode
    print(f"\nthe chain took {time.monotonic() - start:.0f} s\n", flush=True)
    if code == 0:
        ask_three(folder)
    return code


def ask_three(folder: Path) -> None:
    """Serve, ask, stop."""
    server = subprocess.Popen(
        [*RESIDENCY, "serve", "--port", "0", "--workspace", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        for number, question in enumerate(QUESTIONS, 1):
            stream = number == len(QUESTIONS)
            print(f"\nPOST {ready['url']}/v1/chat/completions{' (streamed)' if stream else ''}")
            print(f"> {question}\n< ", end="", flush=True)
            for piece in answer(ready, question, stream):
                print(piece, end="", flush=True)
            print()
    finally:
        server.terminate()
        server.wait()


def answer(ready: dict[str, str], question: str, stream: bool) -> list[str]:
    """The answer in the pieces in which it came."""
    body = {
        "model": ready["models"][0],
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
    }
    request = urllib.request.Request(
        f"{ready['url']}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        if not stream:
            return [json.load(response)["choices"][0]["message"]["content"]]
        events = [line[6:] for line in response if line.startswith(b"data: {")]
        return [
            choice["delta"].get("content") or ""
            for event in events
            for choice in json.loads(event)["choices"]
        ]


if __name__ == "__main__":
    sys.exit(main())
