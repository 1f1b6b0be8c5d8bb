"""Results of two runs side by side, and what a report may write. Usage: gpu_results_test.py SCRIPTS_LIB."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(sys.argv.pop(1)) / "gpu_results.py"


def run(*arguments, text=""):
    return subprocess.run([sys.executable, "-B", SCRIPT, *map(str, arguments)], input=text, text=True, capture_output=True)


def results(path, *rows):
    path.write_bytes(b"".join(f"{test}\t{function}\t{len(data)}\n".encode() + data for test, function, data in rows))
    return path


class GpuResults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compare(self, emulated, device):
        out = self.folder / "correct.json"
        done = run("compare", results(self.folder / "a", *emulated), results(self.folder / "b", *device), out)
        return done, json.loads(out.read_text())

    def test_equal_runs_are_right(self):
        rows = [("a test", "dsv32_linear_4", b"one\n\ttwo"), ("a test", "dsv32_sparse_mla_mma_16", b"x")]
        done, found = self.compare(rows, rows)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(found["kernels"]["dsv32_linear_4"], {"results": 1, "bytes": 8, "different_bytes": 0, "tests": []})

    def test_one_bit_of_a_predicted_kernel_is_wrong(self):
        done, found = self.compare([("t", "dsv32_linear_4", b"abc")], [("t", "dsv32_linear_4", b"abd")])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(found["wrong"], ["dsv32_linear_4"])
        self.assertEqual(found["kernels"]["dsv32_linear_4"]["tests"], ["t"])

    def test_kernels_with_exponentials_are_held_to_their_tests_alone(self):
        done, found = self.compare([("t", "dsv32_sparse_mla_mma_64", b"abc")], [("t", "dsv32_sparse_mla_mma_64", b"xyz")])
        self.assertEqual((done.returncode, found["wrong"]), (0, []))
        self.assertEqual(found["kernels"]["dsv32_sparse_mla_mma_64"]["different_bytes"], 3)

    def test_what_did_not_run_is_missing(self):
        row = ("t", "dsv32_top_k", b"abc")
        self.assertEqual(self.compare([row, ("u", "dsv32_top_k", b"")], [row])[0].returncode, 1)
        self.assertEqual(self.compare([row], [("t", "dsv32_embed", b"abc")])[0].returncode, 1)
        self.assertEqual(self.compare([], [])[0].returncode, 1)

    def test_no_gpu_says_why(self):
        done = run("gpu", text=json.dumps({"backends": [{"device": "cpu"}], "unavailable": {"cuda": "no driver"}}))
        self.assertEqual((done.returncode, done.stdout), (1, "no GPU: no driver\n"))
        one = json.dumps({"backends": [{"device": "cuda", "name": "NVIDIA H200"}], "unavailable": {}})
        self.assertEqual(run("gpu", text=one).stdout, "NVIDIA H200\n")
        self.assertEqual(run("gpu", "--seed", text=one).stdout, "3\n")

    def test_an_emulated_day_writes_nothing(self):
        (self.folder / "steps.txt").write_text("2027-01-02T03:04Z correct, emulated\nA1  kernels  20 s  ok\n")
        self.compare([("t", "dsv32_embed", b"a")], [("t", "dsv32_embed", b"a")])
        (self.folder / "times.json").write_text('{"kernel": "linear", "m": 1, "n": 2, "k": 3, "us": 4.25}\n')
        done = run("report", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 of 1 kernels equal", done.stdout)
        self.assertIn("| linear | 1 | 2 | 3 | 4.2 |", done.stdout)
        self.assertEqual(run("report", self.folder, "--write").returncode, 1)


unittest.main()
