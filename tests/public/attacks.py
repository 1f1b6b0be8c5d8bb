"""tests/attacks.md against the tests: every id has a test that names it, or a reason why not. usage: attacks.py ROOT"""
import pathlib
import re
import sys

ID = re.compile(r"\b(?:ST|OF|DT|IX|MM|CF|TK|CH|PA|SA|SE|SV|RS)-\d\d\b")


def tests(root):
    """id -> names of the tests that have it in their name"""
    found = {}
    for path in sorted((root / "tests").rglob("*_test.cc")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'TEST_CASE\("((?:[^"\\]|\\.)*)"', text):
            for attack in ID.findall(name):
                found.setdefault(attack, []).append(name)
    return found


def main(root):
    rows, faults = {}, []
    for line in (root / "tests/attacks.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and ID.fullmatch(cells[0]):
            if cells[0] in rows:
                faults.append(f"{cells[0]} stands twice")
            rows[cells[0]] = cells[1]
    found = tests(root)
    for attack, what in rows.items():
        skipped = what.startswith("no test: ")
        if skipped and len(what) < 30:
            faults.append(f"{attack}: no reason")
        if not skipped and attack not in found:
            faults.append(f"{attack}: no test has it in its name")
        if skipped and attack in found:
            faults.append(f"{attack}: has a test, {found[attack][0]!r}")
    faults += [f"{attack}: is not in attacks.md" for attack in found if attack not in rows]
    for fault in faults:
        print(fault)
    skipped = sum(what.startswith("no test: ") for what in rows.values())
    print(f"{len(rows) - skipped} attacks with a test, {skipped} without, {len(faults)} faults")
    return 1 if faults or not rows else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
