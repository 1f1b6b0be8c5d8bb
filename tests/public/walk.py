"""docs/walk.md tells the truth: each file that it names exists and holds the functions named with
it. A row reads `path` ... `function`. usage: walk.py ROOT"""
import pathlib
import re
import sys


def main(root):
    text = (root / "docs/walk.md").read_text(encoding="utf-8")
    failures = checked = 0
    for line in text.splitlines():
        paths = re.findall(r"\]\(\.\./([\w./-]+\.(?:h|cc))\)", line)
        names = re.findall(r"`([A-Za-z_][\w:]*)\(?\)?`", line)
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
