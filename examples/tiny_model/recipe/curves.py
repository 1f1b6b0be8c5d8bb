"""Draws the training log.  usage: curves.py LOG.jsonl OUT.png"""
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

rows = [json.loads(line) for line in open(sys.argv[1])]
minutes, total, last = [], 0.0, 0.0
for row in rows:  # "min" starts again with every stage
    total += row["min"] - last if row["min"] >= last else row["min"]
    last = row["min"]
    minutes.append(total)
figure, axes = plt.subplots(2, 2, figsize=(11, 6), sharex=True)
plots = (("loss", "loss (nats a token)", True), ("acc", "next token right", False), ("macc", "MTP draft right", False), ("viol", "busiest expert over mean, minus 1", False))
for axis, (key, title, log) in zip(axes.flat, plots):
    for stage, colour in (("main", "#4c72b0"), ("warm", "#dd8452"), ("sparse", "#55a868")):
        at = [i for i, row in enumerate(rows) if row["stage"] == stage]
        axis.plot([minutes[i] for i in at], [rows[i][key] for i in at], ".", ms=3, color=colour, label=stage)
    axis.set_title(title)
    if log:
        axis.set_yscale("log")
    axis.grid(alpha=.3)
axes[0, 0].legend()
for axis in axes[1]:
    axis.set_xlabel("minutes")
figure.tight_layout()
figure.savefig(sys.argv[2], dpi=110)
