"""The mutation suite behind scripts/mutants.sh."""
import argparse
import concurrent.futures
import fnmatch
import pathlib
import queue
import random
import re
import shutil
import subprocess
import sys
import threading
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
TREES = ROOT / "build/mutants"


def run(*command, **options):
    """A finished command. Its output need not be UTF-8: a mutant of the text code may well print half a character."""
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace", **options)


def load(path=ROOT / "tests/mutants/mutants.toml"):
    mutants = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    names = [mutant["name"] for mutant in mutants]
    if len(set(names)) != len(names):
        raise SystemExit("two mutants share a name")
    return mutants


class Tree:
    """A copy of the sources and its build, in which one mutant at a time is planted."""

    def __init__(self, number, jobs):
        self.source = TREES / str(number) / "source"
        self.binary = TREES / str(number) / "build"
        self.jobs = jobs

    def copy_sources(self):
        """Brings the copy up to date; files that did not change keep their time, so that little is rebuilt."""
        listed = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard").stdout.split("\n")
        wanted = {name for name in listed if name and (ROOT / name).is_file()}
        for name in wanted:
            source, target = ROOT / name, self.source / name
            if not target.exists() or source.read_bytes() != target.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                shutil.copymode(source, target)
        for target in self.source.rglob("*"):
            if target.is_file() and target.relative_to(self.source).as_posix() not in wanted:
                target.unlink()

    def configure(self):
        result = run("cmake", "-G", "Ninja", "-S", self.source, "-B", self.binary, "-DCMAKE_BUILD_TYPE=Release",
                     "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
                     "-DDSV32_BUILD_TESTS=ON", "-DDSV32_BUILD_CLI=OFF", "-DDSV32_BUILD_EXAMPLES=OFF",
                     f"-DDSV32_SHARED_DIR={ROOT.parent / 'shared'}")
        if result.returncode != 0:
            raise SystemExit(result.stdout[-3000:])

    def build(self, targets):
        return run("cmake", "--build", self.binary, "-j", self.jobs, "--target", *targets)

    def test(self, mutant):
        """The test's exit status: 0 = green. A hang counts as red."""
        try:
            return run(self.binary / "tests" / mutant["target"], mutant["filter"], cwd=self.source,
                       timeout=300).returncode
        except subprocess.TimeoutExpired:
            return 1

    def prepare(self, mutants):
        """All is built before anything is planted."""
        self.copy_sources()
        self.configure()
        result = self.build(sorted({mutant["target"] for mutant in mutants}))
        if result.returncode != 0:
            raise SystemExit(f"the control does not build:\n{result.stdout[-3000:]}")

    def control(self, mutants):
        """How many of the named tests are red, or empty, though nothing is planted."""
        bad = 0
        for target, name in sorted({(mutant["target"], mutant["filter"]) for mutant in mutants}):
            result = run(self.binary / "tests" / target, name, cwd=self.source)
            if result.returncode != 0 or "No tests ran" in result.stdout:
                print(f"FAIL control: {target} \"{name}\" is not green\n{result.stdout[-1500:]}")
                bad += 1
        return bad

    def plant(self, mutant):
        """None if the mutant was caught, else what went wrong."""
        path = self.source / mutant["file"]
        original = path.read_text(encoding="utf-8")
        if original.count(mutant["before"]) != 1:
            return f"its pattern stands {original.count(mutant['before'])} times in {mutant['file']}"
        path.write_text(original.replace(mutant["before"], mutant["after"]), encoding="utf-8")
        try:
            result = self.build([mutant["target"]])
            if result.returncode != 0:
                return f"it does not compile:\n{result.stdout[-1500:]}"
            return None if self.test(mutant) != 0 else "SURVIVED: the test stayed green"
        finally:
            path.write_text(original, encoding="utf-8")


def plant_all(mutants, trees):
    """A mutant's build is mostly one compiler: each tree has a thread of its own. Yields mutant, problem."""
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)

    def work(tree):
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                problem = tree.plant(mutant)
            except Exception as error:  # whatever it is, somebody waits for this one
                problem = repr(error)
            done.put((mutant, problem))
    workers = [threading.Thread(target=work, args=(tree,), daemon=True) for tree in trees]
    for worker in workers:
        worker.start()
    for _ in mutants:
        yield done.get()


def names_a_test(pattern, names):
    """As Catch reads it: a star may stand at either end, none between; a comma parts two patterns."""
    core = pattern.removeprefix("*").removesuffix("*")
    return "*" not in core and "," not in core and bool(fnmatch.filter(names, pattern))


def check():
    """That every pattern stands once in its file and every filter names a test; nothing is built. For ctest."""
    names = {}
    for path in (ROOT / "tests").rglob("*_test.cc"):
        cases = re.findall(r'TEST_CASE\("((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))
        names.setdefault(f"{path.parent.name}_tests", []).extend(cases)
    failed = 0
    for mutant in load():
        count = (ROOT / mutant["file"]).read_text(encoding="utf-8").count(mutant["before"])
        if count != 1:
            print(f"FAIL {mutant['name']}: its pattern stands {count} times in {mutant['file']}")
        named = names_a_test(mutant["filter"], names.get(mutant["target"], []))
        if not named:
            print(f"FAIL {mutant['name']}: {mutant['target']} has no test {mutant['filter']!r}")
        failed += count != 1 or not named
    print(f"{len(load()) - failed} patterns apply, {failed} do not")
    return 1 if failed else 0


def choose(arguments, mutants):
    if arguments.only:
        return [mutant for mutant in mutants if mutant["name"] == arguments.only]
    if arguments.draw:
        commit = run("git", "-C", ROOT, "rev-parse", "HEAD").stdout.strip()
        return random.Random(commit).sample(mutants, min(arguments.draw, len(mutants)))
    return mutants


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--draw", type=int)
    parser.add_argument("--only")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if arguments.list:
        for mutant in load():
            print(f"{mutant['name']:34} {mutant['file']:34} {mutant['why']}")
        return 0
    mutants = choose(arguments, load())
    if not mutants:
        raise SystemExit("no such mutant")
    # Many are worth a second tree; a few would be done before it is built.
    count = arguments.jobs if len(mutants) >= 30 else 1
    trees = [Tree(i, max(1, arguments.jobs // count)) for i in range(count)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda tree: tree.prepare(mutants), trees):
            pass
    failed = trees[0].control(mutants)
    passed = 0
    for mutant, problem in plant_all(mutants, trees) if not failed else []:
        print(f"{'FAIL' if problem else 'ok  '} {mutant['name']}: {problem or 'caught'}", flush=True)
        passed, failed = passed + (problem is None), failed + (problem is not None)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
