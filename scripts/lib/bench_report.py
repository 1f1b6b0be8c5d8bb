#!/usr/bin/env python3
"""Puts benchmark results into docs/performance.md and draws docs/plots. usage: bench_report.py RESULT.json...

Results are those of scripts/bench.sh --json and scripts/bench_peers.sh --json; a later file's row replaces an earlier
one's. Only what lies between the markers in docs/performance.md is replaced. Why a row misses its goal is written by
hand, in docs/performance-reasons.toml. Plots need matplotlib; without it they are left as they are.
"""
import json
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/performance.md"
PLOTS = ROOT / "docs/plots"
REASONS = ROOT / "docs/performance-reasons.toml"
BEGIN, END = "<!-- results: written by scripts/lib/bench_report.py -->", "<!-- end of results -->"
GROUPS = [
    ("Limits of this machine", r"limit_"),
    ("Products with FP8, INT8 and INT4 weights", r"gem[vm]_(?!vs)|fp8"),
    ("Indexer and top-k", r"indexer|topk"),
    ("Attention", r"mla|dsa"),
    ("Mixture of experts", r"moe"),
    ("Whole layers, batches, time to the first token", r"layer|batch|ttft"),
    ("The engine", r"engine"),
    ("Threads", r"scale|pool"),
    ("Loading and memory", r"load|memory|kv_"),
    ("Tokenizer, sampler, parser", r"tok|sampler|parse|tool"),
    ("Peers", r"e2e|gemm_vs|peer"),
]


def number(x):
    if x is None:
        return ""
    size = abs(x)
    if size and size < 0.001 or size >= 1e7:
        return f"{x:.3g}"
    return f"{x:.0f}" if size >= 1000 else f"{x:.1f}" if size >= 100 else f"{x:.3f}".rstrip("0").rstrip(".")


def attained(row):
    """Part of the goal; None without a goal or value."""
    if row["goal"] is None or row["value"] is None:
        return None
    return row["value"] / row["goal"] if row["higher_is_better"] else row["goal"] / row["value"]


def load(paths):
    runs, rows = [], {}
    for path in paths:
        run = json.loads(pathlib.Path(path).read_text())
        runs.append(run)
        for row in run["rows"]:
            key = (row["name"], row["table"] if row["goal"] is None else "")
            rows.pop((row["name"], ""), None) if row["goal"] is not None else None
            rows[key] = {**row, "run": len(runs)}
    return runs, list(rows.values())


def table(rows):
    lines = ["| row | value | goal | verdict | unit | shape | note |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        goal = "" if r["goal"] is None else ("" if r["higher_is_better"] else "at most ") + number(r["goal"])
        name = r["name"] if r["goal"] is not None or r["table"] == r["best"] else f"{r['name']} [{r['table']}]"
        lines.append(f"| {name} | {number(r['value'])} | {goal} | {r['verdict']} | {r['unit']} | {r['shape']} | {r['note']} |")
    return lines


def circumstances(runs):
    """One line for runs of the same machine, compiler, commit and kernels."""
    lines = ["| machine | compiler | commit | kernels | date | commands |", "|---|---|---|---|---|---|"]
    alike = {}
    for r in runs:
        alike.setdefault((r["machine"], r["compiler"], r["commit"], r["kernel_set"]), []).append(r)
    for (machine, compiler, commit, kernels), group in alike.items():
        dates = sorted(r["date"] for r in group)
        date = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        commands = " ".join(f"`{r['command']}`" for r in group)
        lines.append(f"| {machine} | {compiler} | {commit} | {kernels} | {date} | {commands} |")
    return lines


def reasons():
    """[(pattern of names, why)]; a row has the first that matches the whole of its name."""
    if not REASONS.exists():
        return []
    return [(r["rows"], " ".join(r["why"].split())) for r in tomllib.loads(REASONS.read_text())["reason"]]


def misses(goals):
    """The rows that miss their goal, worst first."""
    known = reasons()
    missed = [r for r in goals if (attained(r) or 0) < 1]
    if not missed:
        return []
    lines = ["### Where a goal is missed", "", "| row | value | goal | part | unit | why |", "|---|---|---|---|---|---|"]
    for r in sorted(missed, key=lambda r: (attained(r) or 0, r["name"])):
        why = next((why for rows, why in known if re.fullmatch(rows, r["name"])), "not explained")
        ceiling = re.search(r"at most [\d.]+ times on this machine", r["note"])
        why = f"{ceiling[0]}: {why}" if ceiling else why
        part = "no value" if r["value"] is None else f"{100 * attained(r):.0f} %"
        why = why if r["value"] is not None else f"{r['note']}; {why}" if why != "not explained" else r["note"]
        goal = ("" if r["higher_is_better"] else "at most ") + number(r["goal"])
        lines.append(f"| {r['name']} | {number(r['value'])} | {goal} | {part} | {r['unit']} | {why} |")
    return lines + [""]


def page(runs, rows):
    skipped = [r["name"] for r in rows if r["verdict"] == "skipped"]
    goals = [r for r in rows if r["goal"] is not None and r["verdict"] != "skipped"]
    reached = sum((attained(r) or 0) >= 1 for r in goals)
    below = [r["name"] for r in goals if attained(r) is not None and attained(r) < 0.7]
    missing = [r["name"] for r in goals if r["value"] is None]
    out = [BEGIN, "", "## Results", "",
           f"{reached} of {len(goals)} rows are at their goal ({100 * reached / max(len(goals), 1):.0f} %), {len(below)} are below 70 % of it, "
           f"{len(missing)} have no value. Rows without a goal do not count, nor do those that were skipped, each of which "
           f"says why ({len(skipped)}).", ""]
    out += circumstances(runs) + ["", "![rows against their goals](plots/goals.svg)", ""] + misses(goals)
    left = list(rows)
    for title, pattern in GROUPS:
        chosen = [r for r in left if re.match(pattern, r["name"])]
        left = [r for r in left if r not in chosen]
        if chosen:
            out += [f"### {title}", ""] + table(chosen) + [""]
    if left:
        out += ["### Other rows", ""] + table(left) + [""]
    out += ["![products by rows](plots/products.svg)", "", "![attention by context](plots/attention.svg)", "", END]
    return "\n".join(out)


def draw(rows):
    try:
        import matplotlib
    except ImportError:
        print("plots skipped: there is no matplotlib")
        return
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "dsv32"
    import matplotlib.pyplot as plt
    PLOTS.mkdir(exist_ok=True)

    def save(figure, name):
        for ending in ("svg", "png"):
            meta = {"Date": None} if ending == "svg" else None
            figure.savefig(PLOTS / f"{name}.{ending}", bbox_inches="tight", dpi=110, metadata=meta)
        plt.close(figure)

    goals = [(r["name"], attained(r)) for r in rows if attained(r) is not None]
    figure, axes = plt.subplots(figsize=(8, 0.19 * len(goals) + 1))
    axes.barh([g[0] for g in goals], [min(g[1], 2) for g in goals],
              color=["tab:green" if g[1] >= 1 else "tab:orange" if g[1] >= 0.7 else "tab:red" for g in goals])
    axes.axvline(1, color="black", linewidth=1)
    axes.axvline(0.7, color="black", linewidth=0.5, linestyle=":")
    axes.set_xlabel("part of the goal (cut at 2); dotted: 70 %")
    axes.tick_params(axis="y", labelsize=6)
    axes.margins(y=0.005)
    axes.invert_yaxis()
    save(figure, "goals")

    curves(plt, save, rows, "products", "rows of x", "part of the limit",
           [("gemv_fp8_m", "FP8, of min(DRAM, peak)"), ("gemm_fp8_m", "FP8, of peak"), ("batch_decode_b", "layer, floor over measured")])
    curves(plt, save, rows, "attention", "context, thousand tokens", "times faster than dense",
           [("dsa_decode_", "decode, absorbed"), ("dsa_prefill_vs_mha_", "prefill, over masked multi-head"),
            ("dsa_prefill_vs_dense_", "prefill, over dense absorbed")])


def curves(plt, save, rows, name, x_label, y_label, series):
    figure, axes = plt.subplots(figsize=(7, 4))
    for prefix, label in series:
        found = [(int(m.group(1)), r) for r in rows
                 if (m := re.fullmatch(prefix + r"(\d+)k?", r["name"])) and r["value"] is not None and r["table"] == r["best"]]
        if not found:
            continue
        found.sort(key=lambda p: p[0])
        line, = axes.plot([p[0] for p in found], [p[1]["value"] for p in found], marker="o", label=label)
        axes.plot([p[0] for p in found], [p[1]["goal"] for p in found], color=line.get_color(), linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label + " (dotted: goal)")
    if axes.lines:
        axes.legend()
    save(figure, name)


def main(paths):
    runs, rows = load(paths)
    for row in rows:
        row["best"] = runs[row["run"] - 1]["kernel_set"]
    text = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(before + page(runs, rows) + after)
    draw(rows)


main(sys.argv[1:])
