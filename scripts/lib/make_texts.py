"""Texts for the tokenizer's benchmark rows, out of what a Debian system has: licences and manuals, sources,
translations. usage: make_texts.py TOKENIZER_JSON [OUT_DIR]; then `make_texts.py --peer OUT_DIR` times Hugging Face's
tokenizers (in this Python) on the same files.
"""
import gettext
import pathlib
import re
import shutil
import sys
import time


def take(paths, size):
    parts, seen, total = [], set(), 0
    for path in paths:
        try:
            text = path.read_text("utf-8")[:100_000]
        except (OSError, UnicodeDecodeError):
            continue
        if text in seen:
            continue
        seen.add(text)
        parts.append(text)
        total += len(text.encode())
        if total > size:
            break
    return "\n".join(parts)


def chinese():
    lines = {}
    for path in sorted(pathlib.Path("/usr/share/locale/zh_CN/LC_MESSAGES").glob("*.mo")):
        for text in gettext.GNUTranslations(path.open("rb"))._catalog.values():
            count = len(re.findall("[\u4e00-\u9fa5]", text))
            if count >= 8 and 2 * count > len(text):
                lines.setdefault(text)
    return "\n".join(lines)


def make(tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    share, root = pathlib.Path("/usr/share"), pathlib.Path(__file__).parents[2]
    python = pathlib.Path(gettext.__file__).parent
    english = [*sorted((share / "common-licenses").iterdir()), *sorted((share / "doc").rglob("*.txt")),
               *sorted((share / "doc").rglob("*.md"))]
    code = [*sorted((root / "lib").rglob("*.cc")), *sorted(python.glob("*.py")),
            *sorted(pathlib.Path("/usr/include").rglob("*.h"))]
    for name, text in (("en", take(english, 3e6)), ("code", take(code, 3e6)), ("zh", chinese())):
        (out / f"{name}.txt").write_text(text, "utf-8")
        print(f"{name}: {len(text.encode()):,} bytes")


def peer(out):
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    for name in ("en", "code", "zh"):
        text = (out / f"{name}.txt").read_text("utf-8")
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            tokenizer.encode(text, add_special_tokens=False)
            best = min(best, time.perf_counter() - start)
        print(f"tokenizers {tokenizers.__version__}, {name}: {len(text.encode()) / best / 1e6:.2f} MB/s")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path("build/bench-texts")
    peer(folder) if sys.argv[1] == "--peer" else make(sys.argv[1], folder)
