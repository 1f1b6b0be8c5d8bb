"""README's example and those of docs/embedding.md and docs/engine.md compile, and the documents link to files that exist. usage: readme.py ROOT COMPILER"""
import pathlib
import re
import subprocess
import sys


def main(root, compiler):
    failures = links = 0
    documents = [path for path in root.glob("*.md")] + sorted((root / "docs").rglob("*.md"))
    documents += [root / "tests/attacks.md", *(root / "examples").rglob("README.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            links += 1
            if "://" not in link and not (document.parent / link).exists():
                print(f"{document.relative_to(root)}: no {link}")
                failures += 1
    example = [code for name in ("README.md", "docs/embedding.md", "docs/engine.md")
               for code in re.findall(r"```cpp\n(.*?)```", (root / name).read_text(encoding="utf-8"), re.DOTALL)]
    command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{root}/include", "-x", "c++", "-"]
    for code in example:
        done = subprocess.run(command, input=code, text=True, capture_output=True)
        print(done.stderr, end="")
        failures += done.returncode != 0
    print(f"{links} links, {len(example)} examples, {failures} wrong")
    return 1 if failures or len(example) < 2 or links < 20 else 0


sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
