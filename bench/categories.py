"""Discovered categories against the true intents, side by side with what others find.

    python bench/categories.py TRACE.csv TEXTS.csv [--count N] [--intents banking] [--without-peers]

The log is bench/traffic_log.py's, without its tag. TF-IDF with k-means is told the true number of
intents, which nobody else is. slmify runs as it does offline, on its hashed words, as its own
embeddings come from the hub, and leaves failed calls out; clickllm groups calls by their shape and
not by what they ask. Each runs in an environment of its own. NMI and purity are of calls; purity
rises with the number of categories, and is 1 where each call has its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traffic_log import BANKING, SEED, arrivals, call, questions, texts

from residency.engines import environments
from residency.engines.environments import Environment
from residency.traffic.coverage import compare
from residency.traffic.discovery import Sample, discover

SLMIFY = Environment(
    name="slmify", packages=("slmify==0.2.0",), test="slmify.pipeline", size=700_000_000
)
CLICKLLM = Environment(
    name="clickllm", packages=("clickllm-cli==1.2.2",), test="clickllm.distill.cluster", size=10**7
)
READ = """
import json, sys
from pathlib import Path
calls = [json.loads(line) for line in Path(sys.argv[1]).open()]
asked = [one["request"]["messages"][-1]["content"] for one in calls]
"""
TFIDF = """
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
vectors = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(asked)
print(json.dumps(KMeans(int(sys.argv[2]), n_init=4, random_state=17).fit_predict(vectors).tolist()))
"""
SLMIFY_RUN = """
import polars, tempfile
from slmify.pipeline import run_analysis
with tempfile.TemporaryDirectory() as folder:
    kept = Path(folder)
    run_analysis(Path(sys.argv[1]), embedder_spec="hash", algo=sys.argv[2], persist_root=kept)
    found = polars.read_parquet(next(kept.rglob("records.parquet")))
labels = dict(zip(found["call_id"], found["cluster"]))
print(json.dumps([labels.get(one["response"].get("id")) for one in calls]))
"""
CLICKLLM_RUN = """
from clickllm.distill.cluster import cluster
from clickllm.distill.shape import Capture
def capture(one):
    choices = one["response"].get("choices") or [{"message": {"content": ""}}]
    return Capture(
        request_id=one["id"],
        model=one["request"]["model"],
        messages=tuple(one["request"]["messages"]),
        response=choices[0]["message"]["content"],
        prompt_tokens=one["response"].get("usage", {}).get("prompt_tokens"),
    )
groups = cluster([capture(one) for one in calls])
labels = {c.request_id: n for n, group in enumerate(groups) for c in group.captures}
print(json.dumps([labels[one["id"]] for one in calls]))
"""


def ours(log: Sequence[dict[str, Any]]) -> list[str]:
    sample = Sample()
    asked = [one["request"]["messages"][-1]["content"] for one in log]
    for text in asked:
        sample.add("", text)
    with tempfile.TemporaryDirectory() as folder:
        found = discover(Path(folder), sample)
    return [found.category("", text) for text in asked]


def theirs(environment: Environment, script: str, path: Path, *words: str) -> list[Any]:
    command = [str(environments.python(environment)), "-c", READ + script, str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{environment.name}: {done.stderr[-2000:]}")
    labels: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return labels


def show(name: str, labels: Sequence[Any], truth: Sequence[str], seconds: float) -> None:
    pairs = Counter((str(a), b) for a, b in zip(labels, truth, strict=True) if a is not None)
    found = compare(name, pairs, len(truth))
    print(
        f"{name:24}{len(found.table):>12}{found.nmi:>8.3f}{found.purity:>9.3f}{seconds:>9.1f}",
        flush=True,
    )


def measure(log: Sequence[dict[str, Any]], truth: Sequence[str], path: Path, peers: bool) -> None:
    ways: dict[str, Any] = {"ours": lambda: ours(log)}
    if peers:
        number = str(len(set(truth)))
        ways |= {
            f"TF-IDF, k-means, k={number}": lambda: theirs(SLMIFY, TFIDF, path, number),
            "slmify": lambda: theirs(SLMIFY, SLMIFY_RUN, path, "hdbscan"),
            "slmify, k-means": lambda: theirs(SLMIFY, SLMIFY_RUN, path, "kmeans"),
            "clickllm": lambda: theirs(CLICKLLM, CLICKLLM_RUN, path),
        }
    for name, way in ways.items():
        start = time.perf_counter()
        labels = way()
        show(name, labels, truth, time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("trace", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--intents", default="", help="names with commas, or banking")
    parser.add_argument("--without-peers", action="store_true")
    given = parser.parse_args()
    if not given.without_peers:
        environments.install(SLMIFY)
        environments.install(CLICKLLM)
    wanted = (
        BANKING if given.intents == "banking" else tuple(filter(None, given.intents.split(",")))
    )
    known = texts(given.texts, wanted)
    times = list(arrivals(given.trace, given.count))
    for even in (True, False):
        rng = random.Random(SEED)
        asked = questions(known, given.count, rng, even=even)
        log = [
            call(number, at, *question, rng)
            for number, at, question in zip(itertools.count(), times, asked, strict=False)
        ]
        truth = [one.pop("metadata")["intent"] for one in log]
        print(f"\n{given.count} calls, {len(known)} intents, {'even' if even else 'by Zipf'}")
        print(f"{'':24}{'categories':>12}{'NMI':>8}{'purity':>9}{'s':>9}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            path.write_text("".join(f"{json.dumps(one)}\n" for one in log))
            measure(log, truth, path, not given.without_peers)


if __name__ == "__main__":
    main()
