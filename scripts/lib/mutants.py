"""The mutation suite behind scripts/mutants.sh."""
import argparse
import fnmatch
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "build/mutants/source"
BUILD = ROOT / "build/mutants/build"


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


def copy_sources():
    """Brings the copy up to date; files that did not change keep their time, so that little is rebuilt."""
    listed = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard").stdout.split("\n")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
    for target in COPY.rglob("*"):
        if target.is_file() and target.relative_to(COPY).as_posix() not in wanted:
            target.unlink()


def build(target, jobs):
    return run("cmake", "--build", BUILD, "--target", target, "-j", jobs)


def test(mutant):
    """The test's exit status: 0 = green. A hang counts as red."""
    try:
        return run(BUILD / "tests" / mutant["target"], mutant["filter"], cwd=COPY, timeout=300).returncode
    except subprocess.TimeoutExpired:
        return 1


def control(mutants, jobs):
    """Every named test is green, and not empty, before anything is planted."""
    for target in sorted({mutant["target"] for mutant in mutants}):
        result = build(target, jobs)
        if result.returncode != 0:
            raise SystemExit(f"the control does not build:\n{result.stdout[-3000:]}")
    bad = 0
    for target, name in sorted({(mutant["target"], mutant["filter"]) for mutant in mutants}):
        result = run(BUILD / "tests" / target, name, cwd=COPY)
        if result.returncode != 0 or "No tests ran" in result.stdout:
            print(f"FAIL control: {target} \"{name}\" is not green\n{result.stdout[-1500:]}")
            bad += 1
    return bad


def plant(mutant, jobs):
    """None if the mutant was caught, else what went wrong."""
    path = COPY / mutant["file"]
    original = path.read_text(encoding="utf-8")
    if original.count(mutant["before"]) != 1:
        return f"its pattern stands {original.count(mutant['before'])} times in {mutant['file']}"
    path.write_text(original.replace(mutant["before"], mutant["after"]), encoding="utf-8")
    try:
        result = build(mutant["target"], jobs)
        if result.returncode != 0:
            return f"it does not compile:\n{result.stdout[-1500:]}"
        return None if test(mutant) != 0 else "SURVIVED: the test stayed green"
    finally:
        path.write_text(original, encoding="utf-8")


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
        named = fnmatch.filter(names.get(mutant["target"], []), mutant["filter"])
        if not named:
            print(f"FAIL {mutant['name']}: {mutant['target']} has no test {mutant['filter']!r}")
        failed += count != 1 or not named
    print(f"{len(load()) - failed} patterns apply, {failed} do not")
    return 1 if failed else 0


def choose(arguments):
    mutants = load()
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
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if arguments.list:
        for mutant in load():
            print(f"{mutant['name']:34} {mutant['file']:34} {mutant['why']}")
        return 0
    mutants = choose(arguments)
    if not mutants:
        raise SystemExit("no such mutant")
    copy_sources()
    result = run("cmake", "-G", "Ninja", "-S", COPY, "-B", BUILD, "-DCMAKE_BUILD_TYPE=Release",
                 "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
                 "-DDSV32_BUILD_CLI=OFF", "-DDSV32_BUILD_EXAMPLES=OFF",
                 f"-DDSV32_SHARED_DIR={ROOT.parent / 'shared'}")
    if result.returncode != 0:
        raise SystemExit(result.stdout[-3000:])
    failed = control(mutants, arguments.jobs)
    passed = 0
    for mutant in mutants if not failed else []:
        problem = plant(mutant, arguments.jobs)
        print(f"{'FAIL' if problem else 'ok  '} {mutant['name']}: {problem or 'caught'}", flush=True)
        passed, failed = passed + (problem is None), failed + (problem is not None)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
