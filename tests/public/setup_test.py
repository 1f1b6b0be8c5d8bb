"""The scripts that people start. usage: setup_test.py SOURCE_DIR"""
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import unittest

source = pathlib.Path()


def bash(line, **environment):
    return subprocess.run(["bash", "-c", line], cwd=source, capture_output=True, encoding="utf-8",
                          env={**os.environ, **environment}, timeout=60)


class SetupTest(unittest.TestCase):
    def packages(self, which):
        """What is missing where there is nothing at all."""
        nothing = "has_command() { false; }; has_header() { false; }; ls() { false; }; "
        done = bash(f". scripts/lib/setup.sh; {nothing} missing_packages {which}")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def test_reports_E1_lists_of_packages_agree_with_what_the_scripts_look_for(self):
        use = (source / "scripts/apt-packages.txt").read_text().split()
        tests = (source / "scripts/apt-packages-dev.txt").read_text().split()
        self.assertEqual(self.packages("demo"), use)
        self.assertEqual(self.packages("full"), use + tests)

    def test_reports_E1_the_release_preset_needs_no_catch2(self):
        with tempfile.TemporaryDirectory() as build:
            done = bash(f"cmake --preset release -B {build} -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn('DSV32_BUILD_TESTS="OFF"', done.stdout)
            done = bash(f"cmake -S . -B {build}/plain -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_reports_E11_a_step_on_a_terminal_shows_how_far_it_is(self):
        line = ('. scripts/lib/setup.sh; step "progress test" bash -c '
                '"echo \'[3/117] Building x\'; sleep 2.5; echo \'[117/117] Linking\'"')
        parent, child = pty.openpty()
        with subprocess.Popen(["bash", "-c", line], cwd=source, stdout=child, stderr=child) as process:
            os.close(child)
            text = b""
            try:
                while piece := os.read(parent, 4096):
                    text += piece
            except OSError:  # its end
                pass
        os.close(parent)
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"progress test ... [3/117]", text)
        self.assertRegex(text, rb"== progress test \.\.\. [23] s\r\n$")
        plain = bash(line)
        self.assertRegex(plain.stdout, r"^== progress test \.\.\. [23] s\n$")

    def test_a_step_that_fails_says_so(self):
        done = bash('. scripts/lib/setup.sh; step "failing test" bash -c "echo why; exit 7"')
        self.assertEqual(done.returncode, 7)
        self.assertRegex(done.stdout, r"failed after \d+ s \(build/logs/failing_test.log\)\nwhy\n")

    def test_no_row_of_performance_is_better_than_its_own_limit(self):
        """A result above what its limit allows is a broken measurement; such a row is struck."""
        rows = 0
        for line in (source / "docs/performance.md").read_text().splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) != 9 or not re.fullmatch(r"[\d.]+", cells[2]):
                continue
            name, value, unit, note = cells[1], float(cells[2]), cells[5], cells[7]
            rows += 1
            if unit in ("floor over measured", "roofline over measured", "of the disk's speed", "of peak", "of DRAM",
                        "of min(DRAM, peak)", "of the limit"):
                self.assertLessEqual(value, 1.02, name)
            if most := re.search(r"at most ([\d.]+) times", note):
                self.assertLessEqual(value, float(most[1]) * 1.02, name)
            if sides := re.search(r"here ([\d.]+) ms, our floor ([\d.]+) ms", note):
                self.assertGreaterEqual(float(sides[1]), float(sides[2]), name)
        self.assertGreater(rows, 80)


if __name__ == "__main__":
    source = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
