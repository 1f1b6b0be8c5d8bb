"""What scripts/gpu_day.sh makes of files: is there a GPU, are two runs equal to the bit, what do the results say.

    gpu [--seed]                  of `dsv32 info --json` on stdin: its name, or the seed of its arithmetic on the emulator
    compare EMULATED DEVICE OUT   results of kernels' tests, read side by side
    report DIR [--write]          rows for docs/performance.md; --write changes "emulated" where all was right
"""
import argparse
import collections
import datetime
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Kernels with ex2, whose bits are the chip's own: a tolerance is the tests'. All others are predicted to the bit.
INEXACT = re.compile(r"dsv32_(sparse_mla\w*|silu_mul|moe_gate)$")
EMULATED = "**Emulated, not run on hardware.**"


def gpu(arguments):
    info = json.load(sys.stdin)
    found = [one for one in info["backends"] if one["device"] == "cuda"]
    if not found:
        print("no GPU:", info.get("unavailable", {}).get("cuda", "this build has no plug-in"))
        return 1
    if not arguments.seed:
        print(found[0]["name"])
        return 0
    # 1: sm80, 2: sm89, 3: sm90; of newer ones nobody has published sums.
    arch = found[0].get("arch") or (90 if re.search(r"H[12]\d\d", found[0]["name"]) else
                                    89 if re.search(r"L40|L4\b|RTX 4", found[0]["name"]) else 80)
    print(3 if arch >= 90 else 2 if arch == 89 else 1)
    return 0


def results(path):
    """(test, function, bytes) of each result that a test has read."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        end = data.index(b"\n", at)
        test, function, count = data[at:end].decode().rsplit("\t", 2)
        at = end + 1 + int(count)
        yield test, function, data[end + 1:at]


def by_test(path):
    found = collections.defaultdict(list)
    for test, function, data in results(path):
        found[test].append((function, data))
    return found


def compare(arguments):
    emulated, device = by_test(arguments.emulated), by_test(arguments.device)
    kernels = collections.defaultdict(lambda: {"results": 0, "bytes": 0, "different_bytes": 0, "tests": []})
    missing = sorted(set(emulated) - set(device))
    for test, wanted in emulated.items():
        for (function, a), (other, b) in zip(wanted, device.get(test, [])):
            if function != other or len(a) != len(b):
                missing.append(f"{test}: {function} and {other} do not pair")
                break
            entry = kernels[function]
            entry["results"] += 1
            entry["bytes"] += len(a)
            different = 0 if a == b else sum(x != y for x, y in zip(a, b))
            entry["different_bytes"] += different
            if different and test not in entry["tests"]:
                entry["tests"].append(test)
    wrong = [name for name, entry in kernels.items() if entry["different_bytes"] and not INEXACT.match(name)]
    arguments.out.write_text(json.dumps({"kernels": kernels, "missing": missing, "wrong": wrong}, indent=1) + "\n")
    for name, entry in sorted(kernels.items()):
        verdict = "equal" if not entry["different_bytes"] else "within tolerance" if INEXACT.match(name) else "DIFFERENT"
        print(f"{name:36} {entry['results']:5} results {entry['bytes']:12,} bytes {entry['different_bytes']:10,} differ  {verdict}")
    for line in missing:
        print(f"missing: {line}")
    print(f"{len(kernels)} kernels, {len(wrong)} not to the bit, {len(missing)} missing")
    return 1 if wrong or missing or not kernels else 0


def report(arguments):
    folder = arguments.folder
    steps = (folder / "steps.txt").read_text().splitlines() if (folder / "steps.txt").exists() else []
    emulated = any(line.endswith("emulated") for line in steps)
    machine = (folder / "A0.log").read_text() if (folder / "A0.log").exists() else ""
    name = next((line.split(",")[0] for line in machine.splitlines() if line.startswith("NVIDIA")), "an emulated GPU" if emulated else "a GPU")
    day = steps[0][:10] if steps else str(datetime.date.today())
    print(f"## {name}, {day}\n")
    print("\n".join("    " + line for line in steps) + "\n")
    correct = folder / "correct.json"
    right = False
    if correct.exists():
        found = json.loads(correct.read_text())
        equal = sum(1 for entry in found["kernels"].values() if not entry["different_bytes"])
        right = not found["wrong"] and not found["missing"]
        print(f"{equal} of {len(found['kernels'])} kernels equal their prediction to the bit; not so, though they should: "
              f"{', '.join(found['wrong']) or 'none'}.\n")
    times = folder / "times.json"
    if times.exists():
        print("| kernel | rows | outputs | columns or keys | us |\n|---|---|---|---|---|")
        for row in map(json.loads, times.read_text().splitlines()):
            print(f"| {row['kernel']} | {row['m']} | {row['n']} | {row['k']} | {row['us']:.1f} |")
    failed = [line for line in steps if re.search(r"(failed|out of time)$", line)]
    if not arguments.write:
        return 0
    if emulated or not right or failed:
        print("\nnothing written: this was emulated, or not all was right", file=sys.stderr)
        return 1
    page = ROOT / "docs/cuda.md"
    text = page.read_text(encoding="utf-8")
    if EMULATED not in text:
        raise SystemExit(f"docs/cuda.md does not say {EMULATED}")
    page.write_text(text.replace(EMULATED, f"**Run on {name}, {day}**: every step of `scripts/gpu_day.sh`. What follows was emulated first."),
                    encoding="utf-8")
    print("docs/cuda.md changed; README.md, docs/performance.md and the release notes are yours", file=sys.stderr)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("gpu")
    one.add_argument("--seed", action="store_true")
    one.set_defaults(run=gpu)
    two = commands.add_parser("compare")
    for name in ("emulated", "device", "out"):
        two.add_argument(name, type=pathlib.Path)
    two.set_defaults(run=compare)
    three = commands.add_parser("report")
    three.add_argument("folder", type=pathlib.Path)
    three.add_argument("--write", action="store_true")
    three.set_defaults(run=report)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
