"""No test's name holds what CMake or Catch reads as something else: its test would run nothing.
usage: test_names.py SOURCE_DIR"""
import pathlib
import re
import sys


def main(root):
    bad = []
    count = 0
    for path in sorted((root / "tests").glob("*/*_test.cc")):
        for case in re.findall(r"TEST_CASE\(\s*((?:\"(?:[^\"\\]|\\.)*\"\s*)+)", path.read_text(encoding="utf-8")):
            name = "".join(re.findall(r"\"((?:[^\"\\]|\\.)*)\"", case))
            count += 1
            if ";" in name:
                bad.append(f"{path.relative_to(root)}: {name!r} has a semicolon")
    print("\n".join(bad) or f"{count} names: as they should be")
    return 1 if bad or count < 200 else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
