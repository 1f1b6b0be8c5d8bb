"""Every command of README and of the documents: runs in a clean clone, in the reader's order, or says why it does not.

usage: readme_commands.py ROOT          each command is known here, and each one known here exists
       readme_commands.py ROOT --run    runs them, too: builds twice, some minutes; `check.sh --full` does it
"""
import pathlib
import re
import subprocess
import sys
import tempfile

CHECKS = "a step of check.sh, which runs this"
LONG = "takes tens of minutes of a quiet machine"
MACHINE = "installs packages; public.setup compares the list with what the scripts look for"
GPU = "builds with nvcc and runs an emulated GPU: twenty minutes"
TRAINING = "needs torch and hours"
HERE = "./build/demo/examples/cli/dsv32"

# What a document's command is run as; a reason in brackets: it is not run. In the order of the documents.
PLAN = [
    ("README.md", "./scripts/demo.sh", "./scripts/demo.sh --no-chat"),
    ("README.md", "./scripts/check.sh", [CHECKS]),
    ("README.md", "apt-get update && apt-get install -y $(cat scripts/apt-packages.txt)", [MACHINE]),
    ("README.md", "cmake --preset release && cmake --build --preset release",
     "cmake --preset release -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON && cmake --build --preset release"),
    ("README.md", "cmake --install build/release --prefix /where/you/like",
     "cmake --install build/release --prefix ../prefix"),
    ("README.md", "dsv32 chat --save DIR",
     f"echo 'Who are you?' | {HERE} chat examples/tiny_model --save ../chats && grep -q assistant ../chats/chat.json"),
    ("docs/cuda.md", "./scripts/cuda-toolkit.sh && cmake --preset cuda && cmake --build --preset cuda", [GPU]),
    ("docs/cuda.md", "./scripts/emulated.sh build/cuda/examples/cli/dsv32 generate examples/tiny_model --device cuda "
     '--chat --greedy "What is 47 + 38?"', [GPU]),
    ("docs/cuda.md", "ctest --preset cuda -L cuda-quick", [GPU]),
    ("docs/cuda.md", "ctest --preset cuda -L cuda", [GPU]),
    ("docs/embedding.md", "c++ -std=c++20 app.cc $(pkg-config --cflags --libs dsv32)",
     "export PKG_CONFIG_PATH=$(echo $PWD/../prefix/lib*/pkgconfig $PWD/../prefix/lib/*/pkgconfig | tr ' ' :); "
     "c++ -std=c++20 ../app.cc $(pkg-config --cflags --libs dsv32) -o ../app && "
     "LD_LIBRARY_PATH=$(pkg-config --variable=libdir dsv32) ../app | grep ."),
    ("docs/engine.md", "dsv32 batch examples/tiny_model IN.jsonl -o OUT.jsonl",
     """echo '{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hello"}]}}' > ../in.jsonl && """
     f"{HERE} batch examples/tiny_model ../in.jsonl -o ../out.jsonl && grep -q chat.completion ../out.jsonl"),
    ("docs/formats.md", "python examples/tiny_model/recipe/texts.py DSV32_PROGRAM examples/tiny_model > texts.json",
     f"python3 examples/tiny_model/recipe/texts.py {HERE} examples/tiny_model > ../texts.json"),
    ("docs/formats.md", "dsv32 quantize examples/tiny_model -o OUT --format int8 --eval texts.json --numerics native",
     f"{HERE} quantize examples/tiny_model -o ../int8 --format int8 --eval ../texts.json --numerics native"),
    ("docs/numerics.md", "dsv32 trace examples/tiny_model --ids IDS -o OUT --indexer int8",
     f"echo '[1, 2, 3]' | {HERE} trace examples/tiny_model --ids - -o ../trace --indexer int8"),
    ("examples/tiny_model/README.md", "DSV32=build/dev/examples/cli/dsv32 SELECTION=build/dev/tests/controls/dsv32_selection",
     ["names for the next line"]),
    ("examples/tiny_model/README.md", "SELECTION=$SELECTION python recipe/score.py $DSV32 . scores.json",
     ["needs numpy and tokenizers"]),
    ("examples/tiny_model/README.md", "python recipe/from_checkpoint.py . RUN", [TRAINING]),
    ("examples/tiny_model/README.md", "STEP0=200 python recipe/train.py RUN", [TRAINING]),
    ("examples/tiny_model/README.md", "STEP0=300 python recipe/train.py RUN", [TRAINING]),
    ("examples/tiny_model/README.md", "python recipe/export.py RUN OUT", [TRAINING]),
    ("CONTRIBUTING.md", "cmake --workflow --preset dev", [CHECKS]),
    ("CONTRIBUTING.md", "cmake --workflow --preset asan", [CHECKS]),
    ("CONTRIBUTING.md", "cmake --preset tsan -DDSV32_TEST_ALL_KERNELS=ON", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/check.sh", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/check.sh --full", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/conformance.sh chat tests/golden/chat/public.jsonl",
     ["cli and model tests run its program on every vector"]),
    ("CONTRIBUTING.md", "./scripts/bench.sh --list", ["bench.sh --smoke is " + CHECKS]),
    ("CONTRIBUTING.md", "./scripts/bench.sh gemv_fp8", [LONG]),
    ("CONTRIBUTING.md", "./scripts/bench_pair.sh main~1 layer_decode_ moe_", [LONG]),
    ("CONTRIBUTING.md", "./scripts/bench_peers.sh", [LONG]),
    ("CONTRIBUTING.md", "./scripts/fuzz.sh safetensors 600", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/fuzz.sh sampler runs=1000000", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/mutants.sh --all", [CHECKS]),
    ("CONTRIBUTING.md", "./scripts/kernel_mutants.sh --all", [CHECKS]),
    ("docs/cuda.md", "./scripts/kernel_mutants.sh --all", [CHECKS]),
    ("docs/cuda.md", "./scripts/gpu_day.sh --pack", ["ctest -L cuda packs"]),
    ("docs/cuda.md", "./scripts/gpu_day.sh correct", ["needs a GPU; ctest -L cuda rehearses"]),
    ("docs/cuda.md", "./scripts/gpu_day.sh perf", ["needs a GPU"]),
    ("docs/cuda.md", "./scripts/gpu_day.sh --report build/gpu_day/out", ["needs a GPU's results"]),
    ("docs/performance.md", "./scripts/bench.sh --json build/bench.json", [LONG]),
    ("docs/performance.md", "./scripts/bench.sh gemv_fp8 mla", [LONG]),
    ("docs/performance.md", "./scripts/bench.sh --list", [LONG]),
    ("docs/performance.md", "./scripts/bench.sh --kernels avx2", [LONG]),
    ("docs/performance.md", "./scripts/bench.sh --smoke", [CHECKS]),
    ("docs/performance.md", "./scripts/bench_peers.sh --json build/peers.json", [LONG]),
    ("docs/performance.md", ".venv/bin/python scripts/lib/bench_report.py build/bench.json build/peers.json", [LONG]),
]
COMMAND = re.compile(r"^(\./scripts/|scripts/|cmake |ctest |python3? |\.venv/bin/|dsv32 |apt-get |c\+\+ |[A-Z0-9]+=\S+ )")


def commands(text):
    """Of blocks that are indented or of sh, and of the cells of tables; without comments."""
    found, fence, before = [], None, ""
    for line in text.split("\n"):
        if line.startswith("```"):
            fence = None if fence is not None else line[3:]
        elif fence == "sh" or (fence is None and line.startswith("    ")):
            word = re.split(r"\s+#\s", line.strip())[0]
            if not before.endswith("\\") and COMMAND.match(word):
                found.append(word.removesuffix("\\").strip())
        elif fence is None and line.startswith("| ") and "20" not in line[:20]:
            found += [word for word in re.findall(r"`([^`]+)`", line) if COMMAND.match(word)]
        before = line
    return found


def check_plan(root):
    failures, seen = 0, set()
    documents = ["README.md", "CONTRIBUTING.md"] + [str(p.relative_to(root)) for p in sorted((root / "docs").rglob("*.md"))]
    documents += [str(p.relative_to(root)) for p in sorted((root / "examples").rglob("README.md"))]
    known = {(document, command) for document, command, _ in PLAN}
    for document in documents:
        text = (root / document).read_text(encoding="utf-8").split("<!-- results")[0]
        for command in commands(text):
            seen.add((document, command))
            if (document, command) not in known:
                print(f"{document}: nobody runs  {command}")
                failures += 1
    for document, command in sorted(known):
        if (document, command) not in seen:
            print(f"{document}: has no  {command}")
            failures += 1
    print(f"{len(seen)} commands, {failures} wrong")
    return failures + (len(seen) < 20)


def run_plan(root):
    example = re.search(r"```cpp\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    failures = ran = 0
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        clone = folder / "clone"
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", root, clone], check=True)
        (folder / "app.cc").write_text(example)
        for document, command, how in PLAN:
            if isinstance(how, list):
                print(f"{document}: {command}: not run: {how[0]}")
                continue
            ran += 1
            done = subprocess.run(["bash", "-c", how], cwd=clone, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            print(f"{document}: {command}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
            if done.returncode != 0:
                print(done.stdout[-3000:])
                failures += 1
        left = subprocess.run(["git", "status", "--short"], cwd=clone, text=True, capture_output=True).stdout
        if left:
            print("the commands left files in the tree:\n" + left)
            failures += 1
    print(f"{ran} ran, {failures} failed")
    return failures


if __name__ == "__main__":
    ROOT = pathlib.Path(sys.argv[1]).resolve()
    wrong = check_plan(ROOT)
    if not wrong and "--run" in sys.argv[2:]:
        wrong = run_plan(ROOT)
    sys.exit(1 if wrong else 0)
