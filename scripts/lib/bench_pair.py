"""Runs two builds of dsv32-bench in turns and compares their rows; see scripts/bench_pair.sh.

usage: bench_pair.py [--pairs N] [--seconds S] [--longest S] [--json FILE] OLD NEW ROW...
"""
import argparse
import json
import math
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

LEVEL = 0.95     # of the interval
LEAST = 0.98     # a median ratio that is no loss
FEWEST_PAIRS = 10
STARTUP = 5      # seconds until the first row begins
TIME = re.compile(r"([\d.]+) ms, limit")


def fail(text):
    """Ends with 2: 1 means that a row is slower."""
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


def interval(values, level=LEVEL):
    """Bounds of the median that hold for any distribution: those order statistics, as far inside as the binomial law
    allows. Too few values have none."""
    values, n = sorted(values), len(values)
    tail, rank = 0.0, 0
    for k in range(n // 2):
        tail += math.comb(n, k) / 2**n
        if 2 * tail > 1 - level:
            break
        rank = k + 1
    return (values[rank - 1], values[n - rank]) if rank else (-math.inf, math.inf)


def ratio(old, new, higher_is_better):
    """More than 1: the new one is better. None where there is nothing to divide."""
    if not old or not new or old < 0 or new < 0:
        return None
    return new / old if higher_is_better else old / new


def verdict(ratios):
    low, high = interval(ratios)
    return "ok" if statistics.median(ratios) >= LEAST or low <= 1 <= high else "slower"


def milliseconds(row):
    """A call's own time, where the note names one."""
    found = TIME.search(row["note"])
    return float(found[1]) if found else None


class Pairs:
    """All values of one row. A pair without a value on one side does not count."""

    def __init__(self, name):
        self.name, self.ratios, self.times = name, [], []
        self.values = {"old": [], "new": []}
        self.runs = self.loud = 0

    def add(self, old, new):
        self.runs += 1
        for side, row in (("old", old), ("new", new)):
            self.values[side].append(row["value"])
            self.loud += "LOUD" in row["note"]
        for found, x, y, better in ((self.ratios, old["value"], new["value"], new["higher_is_better"]),
                                    (self.times, milliseconds(old), milliseconds(new), False)):
            r = ratio(x, y, better)
            if r is not None:
                found.append(r)

    def verdict(self):
        if 2 * len(self.ratios) > self.runs:
            return verdict(self.ratios)
        has = {side: 2 * sum(v is not None for v in values) > self.runs for side, values in self.values.items()}
        return "lost" if has["old"] and not has["new"] else "no value"

    def line(self):
        if not self.ratios:
            return f"{self.name:<28} {'-':>6} {'':15} {'-':>6}  {self.verdict()}"
        low, high = interval(self.ratios)
        times = f"{statistics.median(self.times):6.3f}" if self.times else f"{'-':>6}"
        loud = f" ({self.loud} of {2 * self.runs} runs loud)" if self.loud else ""
        return (f"{self.name:<28} {statistics.median(self.ratios):6.3f} {f'{low:.3f} .. {high:.3f}':15} {times}"
                f"  {self.verdict()}{loud}")

    def record(self):
        low, high = interval(self.ratios) if self.ratios else (None, None)
        bound = [None if x is None or math.isinf(x) else x for x in (low, high)]
        return {"name": self.name, "median": statistics.median(self.ratios) if self.ratios else None,
                "interval": bound, "verdict": self.verdict(), "ratios": self.ratios, "time_ratios": self.times,
                "old": self.values["old"], "new": self.values["new"]}


def bad(pairs):
    return pairs.verdict() in ("slower", "lost")


def names_of(program):
    listed = subprocess.run([program, "--list"], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def run(program, rows, seconds):
    """The rows of one run, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "run.json"
        done = subprocess.run([program, "--seconds", str(seconds), "--json", path, *rows], stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            fail(f"{program} ended with {done.returncode}")
        return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def choose(names, wanted):
    """Of `names`, those that begin as one of `wanted` does; all of `wanted` must begin one."""
    for begin in wanted:
        if not any(name.startswith(begin) for name in names):
            fail(f"no row begins with {begin}")
    return [name for name in names if name.startswith(tuple(wanted))]


def finished(process, names, longest):
    """How many of `names`, in their order, `process` prints before one takes too long; it is dead then."""
    patience = longest + STARTUP
    for count, name in enumerate(names):
        timer = threading.Timer(patience, process.kill)
        timer.start()
        while (line := process.stdout.readline()) and line.split(" ")[0] != name:
            pass
        timer.cancel()
        if not line:
            return count
        patience = longest
    process.kill()
    return len(names)


def too_long(program, names, exempt, arguments):
    """Names of the rows that one run of `program` does not finish in time. It is the old one that is asked: a row that
    became slow must not fall out for that. Rows are run, and printed, in the order of --list."""
    out, todo = [], [name for name in names if name not in exempt]
    while todo:
        command = [program, "--seconds", str(arguments.seconds), *todo]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as process:
            done = finished(process, todo, arguments.longest)
        if done < len(todo):
            if process.returncode != -signal.SIGKILL:
                fail(f"{program} failed at {todo[done]}")
            out.append(todo[done])
        todo = todo[done + 1:]
    return out


def order(i):
    """Which side runs first in pair `i`: drift that goes on through two pairs cancels."""
    return ("old", "new") if i % 2 == 0 else ("new", "old")


def measure(programs, names, arguments):
    pairs = {name: Pairs(name) for name in names}
    for i in range(arguments.pairs):
        start = time.monotonic()
        done = {side: run(programs[side], names, arguments.seconds) for side in order(i)}
        for name in names:
            pairs[name].add(done["old"][name], done["new"][name])
        print(f"pair {i + 1} of {arguments.pairs}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return list(pairs.values())


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench_pair.sh")
    parser.add_argument("--pairs", type=int, default=FEWEST_PAIRS)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--longest", type=float, default=12)
    parser.add_argument("--json")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("rows", nargs="+")
    out = parser.parse_args(arguments)
    if out.pairs < FEWEST_PAIRS:
        parser.error(f"--pairs is {out.pairs}; the interval wants {FEWEST_PAIRS}")
    return out


def main():
    arguments = parse(sys.argv[1:])
    programs = {"old": arguments.old, "new": arguments.new}
    known = set(names_of(arguments.old))
    chosen = choose(names_of(arguments.new), arguments.rows)
    common = [name for name in names_of(arguments.old) if name in chosen]
    long = too_long(arguments.old, common, arguments.rows, arguments)
    names = [name for name in common if name not in long]
    for name in chosen:
        if name not in known:
            print(f"{name:<28} is new")
    for name in long:
        print(f"{name:<28} left out: one run takes more than {arguments.longest:g} s (name it in full, or --longest)")
    results = measure(programs, names, arguments) if names else []
    print(f"{'row':<28} {'new is':>6} {'95 % interval':15} {'time':>6}  verdict (more than 1: new is faster)")
    for pairs in results:
        print(pairs.line())
    if arguments.json:
        text = json.dumps({"pairs": arguments.pairs, "rows": [pairs.record() for pairs in results]}, indent=1)
        pathlib.Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    slower = sum(bad(pairs) for pairs in results)
    ok = sum(pairs.verdict() == "ok" for pairs in results)
    print(f"{ok} rows ok, {slower} slower, {len(results) - ok - slower + len(long)} not compared")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
