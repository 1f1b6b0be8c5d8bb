"""The mutation suite of the GPU's kernels behind scripts/kernel_mutants.sh.

A mutant changes a kernel's source, which nvcc compiles again, or the PTX that nvcc wrote, which ptxas has to take. The
named test of the emulated GPU must turn red, by a wrong value or by a finding.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import sys

import mutants

ROOT = mutants.ROOT
LIST = ROOT / "tests/mutants/kernels.toml"
TREES = ROOT / "build/kernel-mutants"
PROGRAM = ROOT / "build/cuda/tests/cuda/cuda_kernel_tests"
PTX = ROOT / "build/cuda/lib/backend/cuda/kernels"
FLAGS = ("-std=c++20", "-fmad=false", "--expt-relaxed-constexpr", "-ptx", "-arch=compute_80")


def source_of(mutant):
    """What is changed: a file of the sources, or the PTX of one."""
    return PTX / f"{mutant['ptx']}.ptx" if "ptx" in mutant else ROOT / mutant["file"]


def changed(mutant, text):
    """The text with the mistake in it; None if its pattern is not there as often as it says."""
    before = mutant["before"]
    if "ptx" not in mutant:
        return text.replace(before, mutant["after"]) if text.count(before) == 1 else None
    found = re.sub(before, mutant["after"], text, count=mutant.get("count", 0))
    return found if found != text else None


class Tree:
    """A folder of sources and one of PTX, in which one mutant at a time is planted."""

    def __init__(self, number, nvcc):
        self.sources, self.ptx, self.nvcc = TREES / str(number) / "source", TREES / str(number) / "ptx", nvcc

    def prepare(self):
        shutil.rmtree(self.sources.parent, ignore_errors=True)
        shutil.copytree(ROOT / "kernels", self.sources / "kernels")
        shutil.copytree(PTX, self.ptx, ignore=lambda _, names: [name for name in names if not name.endswith(".ptx")])

    def compile(self, mutant):
        """None, or why the mutant is none."""
        original = source_of(mutant).read_text(encoding="utf-8")
        text = changed(mutant, original)
        if text is None:
            return f"its pattern does not apply to {source_of(mutant).relative_to(ROOT)}"
        if "ptx" in mutant:
            path = self.ptx / f"{mutant['ptx']}.ptx"
            path.write_text(text, encoding="utf-8")
            result = mutants.run(self.nvcc.parent / "ptxas", "-arch=sm_80", "-o", os.devnull, path)
            return f"ptxas does not take it:\n{result.stdout[-1500:]}" if result.returncode else None
        path = self.sources / mutant["file"]
        path.write_text(text, encoding="utf-8")
        try:
            for unit in units_of(mutant):
                result = mutants.run(self.nvcc, *FLAGS, f"-I{self.sources}", "-o", self.ptx / f"{unit}.ptx",
                                     self.sources / f"kernels/cuda/smxx/{unit}.cu")
                if result.returncode:
                    return f"it does not compile:\n{result.stdout[-1500:]}"
        finally:
            path.write_text(original, encoding="utf-8")
        return None

    def restore(self, mutant):
        for unit in units_of(mutant):
            shutil.copyfile(PTX / f"{unit}.ptx", self.ptx / f"{unit}.ptx")

    def test(self, mutant):
        """The named test's result; one that hangs is red."""
        environment = dict(os.environ, DSV32_TEST_PTX=str(self.ptx))
        try:
            return mutants.run(PROGRAM, mutant["filter"], env=environment, timeout=600)
        except mutants.subprocess.TimeoutExpired:
            return None

    def plant(self, mutant):
        """None if the mutant was caught, else what went wrong."""
        try:
            problem = self.compile(mutant)
            if problem:
                return problem
            result = self.test(mutant)
            return None if result is None or is_caught(result) else f"SURVIVED or never ran:\n{result.stdout[-500:]}"
        finally:
            self.restore(mutant)


def units_of(mutant):
    """The files that a mistake in a header shows in are named; else it is the one it is planted in."""
    if "ptx" in mutant:
        return [mutant["ptx"]]
    return mutant.get("units") or [pathlib.Path(mutant["file"]).stem]


def is_caught(result):
    """By a test's own words: a program that ended badly has caught nothing."""
    return result.returncode != 0 and "test cases:" in result.stdout and "failed" in result.stdout


def check(listed):
    """That every pattern of a source stands once and every filter names a test. For ctest."""
    names = [name for path in (ROOT / "tests/cuda").glob("kernels_*_test.cc")
             for name in re.findall(r'TEST_CASE\(\s*"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))]
    failed = 0
    for mutant in listed:
        applies = "ptx" in mutant or changed(mutant, source_of(mutant).read_text(encoding="utf-8")) is not None
        named = mutants.names_a_test(mutant["filter"], names)
        if not applies or not named:
            print(f"FAIL {mutant['name']}: {'no such test' if applies else 'its pattern does not stand once'}")
        failed += not applies or not named
    print(f"{len(listed) - failed} patterns apply, {failed} do not")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--draw", type=int, help="so many of them, by the current commit")
    parser.add_argument("--only", help="the one of this name")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--check", action="store_true", help="that all of them still apply; compiles nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--nvcc", type=pathlib.Path)
    arguments = parser.parse_args()
    listed = mutants.load(LIST)
    if arguments.check:
        return check(listed)
    if arguments.list:
        for mutant in listed:
            print(f"{mutant['name']:34} {mutant.get('file', mutant.get('ptx')):36} {mutant['why']}")
        return 0
    chosen = mutants.choose(arguments, listed)
    if not chosen:
        raise SystemExit("no such mutant")
    free = queue.SimpleQueue()
    for i in range(min(arguments.jobs, len(chosen))):
        tree = Tree(i, arguments.nvcc)
        tree.prepare()
        free.put(tree)
    control = free.get()
    for name in sorted({mutant["filter"] for mutant in chosen}):
        result = control.test({"filter": name})
        if result is None or result.returncode != 0 or "No tests ran" in result.stdout:
            print(f"FAIL control: \"{name}\" is not green\n{result.stdout[-1500:] if result else 'it hangs'}")
            return 1
    free.put(control)

    def plant(mutant):
        tree = free.get()
        try:
            return mutant, tree.plant(mutant)
        finally:
            free.put(tree)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(plant, mutant) for mutant in chosen]):
            mutant, problem = done.result()
            print(f"{'FAIL' if problem else 'ok  '} {mutant['name']}: {problem or 'caught'}", flush=True)
            failed += problem is not None
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
