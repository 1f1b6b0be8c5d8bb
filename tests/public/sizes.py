"""Size budgets: prints every offender, exits 1 if there is one. usage: sizes.py ROOT

Files: 400 lines soft (listed), 600 hard. Public headers: 170 a file, 1,500 in all. Functions are
clang-tidy's (readability-function-size in .clang-tidy).
"""
import pathlib
import sys

HARD, SOFT, HEADER, HEADERS = 600, 400, 170, 1500
GENERATED = {"lib/text/unicode_table.cc"}


def main(root):
    failures = 0
    total = 0
    for folder in ("include", "lib", "kernels", "examples", "tests", "benchmarks"):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix not in (".h", ".cc", ".py") or name in GENERATED or "/golden/" in name:
                continue
            lines = len(path.read_text(encoding="utf-8").splitlines())
            budget = HEADER if folder == "include" else HARD
            total += lines if folder == "include" else 0
            if lines > budget:
                print(f"{name}: {lines} lines, budget {budget}")
                failures += 1
            elif folder != "include" and lines > SOFT:
                print(f"{name}: {lines} lines, over the soft budget of {SOFT} (allowed)")
    if total > HEADERS:
        print(f"public headers: {total} lines in all, budget {HEADERS}")
        failures += 1
    print(f"{failures} over budget")
    return 1 if failures else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
