"""docs/walk.md tells the truth: each file that it names exists and holds the functions named with
it. A row reads step | `path` ... `function` | the same on a GPU. usage: walk.py ROOT"""
import pathlib
import re
import sys


def main(root):
    text = (root / "docs/walk.md").read_text(encoding="utf-8")
    failures = checked = 0
    for line in text.splitlines():
        cells = line.strip().strip("|").split("|")
        cells = ["".join(cells[:2])] + cells[2:]  # what the step names, its file has
        for cell in cells:
            paths = re.findall(r"\]\(\.\./([\w./-]+\.(?:h|cc|cu|cuh))\)", cell)
            names = re.findall(r"`([A-Za-z_][\w:]*)\(?\)?`", cell)
            for path in paths:
                if not (root / path).is_file():
                    print(f"no such file: {path}")
                    failures += 1
                    continue
                source = (root / path).read_text(encoding="utf-8")
                for name in names:
                    checked += 1
                    if not re.search(rf"\b{re.escape(name.split('::')[-1])}\b", source):
                        print(f"{path} has no {name}")
                        failures += 1
    print(f"{checked} names checked, {failures} wrong")
    return 1 if failures or checked < 15 else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
