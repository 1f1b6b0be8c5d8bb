"""Prints "passed failed skipped" of a log that ends as ctest's or as our own programs' do."""
import re
import sys

text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
own = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M)
total = re.search(r"(\d+) tests failed out of (\d+)", text)
skipped = len(re.findall(r"\*\*\*Skipped", text))
if total:
    failed, count = int(total[1]), int(total[2])
    print(count - failed - skipped, failed, skipped)
elif own:
    print(*own[-1], 0)
else:
    print(0, 0, 0)
