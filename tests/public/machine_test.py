"""dsv32 on systems that refuse something. usage: machine_test.py PROGRAM SOURCE_DIR REFUSING

REFUSING is the shared object of refusing.cc.
"""
import json
import pathlib
import signal
import subprocess
import sys

import cli_program
from cli_program import Case, ModelCase, clean_environment, run

refusing = sys.argv.pop(3)
QUESTION = ("--chat", "--greedy", "-n", "20", "--threads", "2", "What is 47 + 38?")


def refuse(*what):
    return {"LD_PRELOAD": refusing, "DSV32_TEST_REFUSE": " ".join(what)}


def without_proc(*command):
    """Runs a command where /proc is empty, as in a chroot; none if that is not allowed here."""
    script = 'mount -t tmpfs none /proc && shift && exec "$@"'
    probe = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "x", "true"],
                           capture_output=True)
    if probe.returncode != 0:
        return None
    return subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "x", *map(str, command)],
                          capture_output=True, encoding="utf-8", env=clean_environment(),
                          timeout=300)


class MappingTest(ModelCase):
    def test_reports_C7_without_mappings_every_command_reads(self):
        want = self.ok("generate", self.model, *QUESTION)
        result = run("generate", self.model, *QUESTION, **refuse("mmap"))
        self.assertEqual(result.stdout, want)
        warnings = [line for line in result.stderr.splitlines() if "warning" in line]
        self.assertEqual(len(warnings), 1, result.stderr)
        self.assertRegex(warnings[0], "1 of 1 files cannot be mapped and are read into memory.*"
                                      "model.safetensors.*No such device")
        for command in (("inspect",), ("info",)):
            mapped = json.loads(self.ok(*command, self.model, "--json"))
            result = run(*command, self.model, "--json", **refuse("mmap"))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            read = json.loads(result.stdout)
            if command == ("inspect",):
                size = (self.model / "model.safetensors").stat().st_size
                self.assertEqual(read["plan"]["weight_bytes"], size)
                self.assertEqual(read["fingerprint"], mapped["fingerprint"])
            result = run(*command, self.model, "--json", "--access", "read", **refuse("mmap"))
            self.assertEqual(result.stderr, "")

    def test_reports_C7_every_command_with_a_model_has_access(self):
        for command in ("chat", "generate", "inspect", "info", "trace", "quantize"):
            self.assertIn("--access", self.ok(command, "--help"), command)


class ProcTest(ModelCase):
    def test_reports_C7_without_proc_memory_is_unknown(self):
        result = without_proc(cli_program.program, "inspect", self.model, "--json")
        if result is None:
            self.skipTest("no name space of our own")
        self.assertEqual(result.returncode, 0, result.stderr)
        plan = json.loads(result.stdout)["plan"]
        limits = pathlib.Path("/sys/fs/cgroup/memory.max")
        if not limits.exists() or limits.read_text() == "max\n":
            self.assertIsNone(plan["available_bytes"])
        self.assertTrue(plan["fits"])
        text = without_proc(cli_program.program, "inspect", self.model).stdout
        self.assertNotRegex(text, r"available_bytes +0 B")
        self.assertNotIn(" 0 B", without_proc(cli_program.program, "info").stdout)
        result = without_proc(cli_program.program, "-q", "generate", self.model, *QUESTION)
        self.assertEqual(result.stdout, self.ok("generate", self.model, *QUESTION))


class ThreadTest(ModelCase):
    def test_reports_F12_without_threads_there_is_a_reason(self):
        want = self.ok("generate", self.model, *QUESTION)
        result = run("generate", self.model, *QUESTION, **refuse("threads"))
        self.assertEqual(result.stdout, want, result.stderr)
        warnings = [line for line in result.stderr.splitlines() if "warning" in line]
        self.assertEqual(len(warnings), 2, result.stderr)
        for line, part in zip(warnings, ("no thread to wait for Ctrl-C", "1 of 2 threads")):
            self.assertIn(part, line)
            self.assertIn("Resource temporarily unavailable", line)
            self.assertIn("`ulimit -u`", line)

    def test_reports_F12_without_threads_ctrl_c_ends_the_program(self):
        process = subprocess.Popen(
            [cli_program.program, "generate", self.model, "-n", "1M", "--ctx", "4096", "Once"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=clean_environment(**refuse("threads")))
        process.stdout.read(1)  # it answers
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        self.assertEqual(process.wait(60), 130)
        process.stdout.close()

    def test_reports_F12_with_threads_it_ends_the_answer(self):
        process = subprocess.Popen(
            [cli_program.program, "generate", self.model, "-n", "1M", "--ctx", "4096", "--stats",
             "Once"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        self.assertIn(b"tokens", process.stderr.read())  # the statistics of what there was
        self.assertEqual(process.wait(60), 130)
        process.stdout.close()
        process.stderr.close()


cli_program.main()
