"""What dsv32 says when something is wrong, and what shells offer. usage: messages_test.py PROGRAM SOURCE_DIR"""
import json
import os
import shutil
import subprocess
import sys
import time

import cli_program
from cli_program import Case, ModelCase, clean_environment, golden, run, tiny_model

COMMANDS = ("chat", "generate", "tokenize", "inspect", "info", "trace", "make-model", "quantize")


class MessagesTest(Case):
    def test_reports_E7_an_unknown_subcommand_is_named(self):
        for words in (("foo",), ("foo", "bar"), ("--json", "foo"), ("-q", "foo", "--help-me")):
            message = self.fails(2, *words)
            self.assertIn("'foo'", message)
            for command in COMMANDS:
                self.assertIn(command, message)
        self.assertIn("no subcommand", self.fails(2))
        self.assertNotIn("unknown subcommand", self.fails(2, "info", "--no-such-option"))

    def test_reports_E7_the_systems_reason(self):
        for option in ("--ids", "--prompt-file"):
            said = self.fails(2, "trace", golden(), option, self.folder / "absent", "-o", self.folder / "o")
            self.assertIn("No such file or directory", said)
            said = self.fails(2, "trace", golden(), option, self.folder, "-o", self.folder / "o")
            self.assertIn("Is a directory", said)
        ids = self.folder / "ids.json"
        ids.write_text("[1, 2]")
        said = self.fails(1, "trace", golden(), "--ids", ids, "-o", self.folder / "absent" / "o")
        self.assertIn("No such file or directory", said)
        (self.folder / "file").write_text("")
        said = self.fails(1, "make-model", "-o", self.folder / "file" / "x", "--layers", "4")
        self.assertIn("Not a directory", said)

    def test_reports_E7_sizes_are_for_people_and_advice_can_help(self):
        ids = self.folder / "ids.json"
        ids.write_text(json.dumps([1] * 5000))
        said = self.fails(4, "trace", golden(), "--ids", ids, "-o", self.folder / "o")
        self.assertIn("5000 tokens are more than the ", said)
        self.assertNotIn("behind 0", said)
        self.assertNotIn("/reset", said)
        said = self.fails(4, "generate", golden(), "[1]", "--ids", "--ctx", "1G")
        self.assertRegex(said, r"needs [0-9.]+ GiB \(weights [0-9.]+ [KM]iB, ")
        self.assertIn("--ctx", said)  # the cache is what is too large
        self.assertIn("GiB are available", run("inspect", golden(), "--ctx", "1G").stdout)

    def test_reports_E7_help_tells_defaults(self):
        text = self.ok("generate", "--help")
        for part in ("=32768", "=2048", "=native", "=mmap", "=the model's own"):
            self.assertIn(part, text)
        for command in COMMANDS:
            self.assertNotIn("=[]", self.ok(command, "--help"))
            self.assertNotIn("1024b", self.ok(command, "--help"))
        self.assertIn("=int8", self.ok("quantize", "--help"))


class UnixTest(Case):
    def test_reports_E11_a_full_disk_is_noticed_by_all_that_prints(self):
        for words in (("--help",), ("info", "--help"), ("--version",), ("--completion", "bash"), ("info",)):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([cli_program.program, *words], stdout=full, stderr=subprocess.PIPE,
                                      encoding="utf-8", env=clean_environment(), timeout=60)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("cannot write to stdout", done.stderr)

    def test_reports_E11_closed_standard_files(self):
        def shell(line):
            return subprocess.run(["bash", "-c", line, cli_program.program, self.folder, golden()],
                                  capture_output=True, encoding="utf-8", env=clean_environment(), timeout=60)

        self.assertIn("cannot write to stdout", shell('"$0" info >&-').stderr)
        self.assertEqual(shell('"$0" info >&-').returncode, 1)
        self.assertEqual(shell('"$0" info 2>&-').returncode, 0)
        self.assertEqual(shell('"$0" info <&- >/dev/null 2>&-').returncode, 0)
        # What is opened later must not be taken for stdout: messages would end up in it.
        line = 'exec "$0" make-model -o "$1/out" --layers 2 --dense-layers 1 --experts 64 --vocab 8192 <&- >&- 2>&-'
        with subprocess.Popen(["bash", "-c", line, cli_program.program, self.folder], env=clean_environment()) as process:
            while process.poll() is None and not list(self.folder.rglob("*.safetensors")):
                time.sleep(0.005)
            self.assertIsNone(process.poll())
            for fd in range(3):
                self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null")
            process.terminate()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_reports_E11_help_of_a_script_writes_nothing(self):
        scripts = sorted((cli_program.source / "scripts").glob("*.py"))
        self.assertTrue(scripts)
        for script in scripts:
            for words in (["--help"], ["-h"]):
                done = subprocess.run([sys.executable, "-B", script, *words], cwd=self.folder, capture_output=True,
                                      encoding="utf-8", timeout=60)
                self.assertEqual(done.returncode, 0, (script, done.stderr))
                self.assertIn("usage", done.stdout.lower())
                self.assertEqual(list(self.folder.iterdir()), [], script)


class CompletionTest(Case):
    def complete(self, *words):
        """What bash offers for the last word, in a folder with a file in it."""
        (self.folder / "file.txt").write_text("")
        quoted = " ".join("'" + word + "'" for word in ("dsv32", *words))
        line = (self.ok("--completion", "bash") + f'\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _dsv32; '
                'echo "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", line], cwd=self.folder, capture_output=True, encoding="utf-8", timeout=60)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_reports_E11_files_are_offered_where_files_belong(self):
        for words in (("trace", ""), ("trace", "--ids", ""), ("trace", "m", "-o", ""), ("info", "-m", ""),
                      ("quantize", "m", "--out", ""), ("chat", "m", "--tools", "")):
            self.assertEqual(self.complete(*words), {"file.txt"}, words)
        for words in (("generate", "m", "--temp", ""), ("trace", "--threads", ""), ("chat", "--ctx", ""),
                      ("trace", "--layer", ""), ("generate", "--seed", "")):
            self.assertEqual(self.complete(*words), set(), words)
        self.assertEqual(self.complete("generate", "m", "--kv", ""), {"bf16", "fp8"})
        self.assertEqual(self.complete("generate", "m", "--kv", "b"), {"bf16"})
        self.assertEqual(self.complete("quantize", "--format", ""), {"int8", "int4"})
        self.assertEqual(self.complete("info", "--color", ""), {"auto", "always", "never"})
        self.assertEqual(self.complete("info", "--json", ""), {"file.txt"})  # a flag takes nothing

    def test_reports_E11_other_shells_hear_the_same(self):
        fish, zsh = self.ok("--completion", "fish"), self.ok("--completion", "zsh")
        self.assertIn(" -l kv -x -a 'bf16 fp8' ", fish)
        self.assertRegex(fish, r"from trace' -l out -s o -r -F ")
        self.assertRegex(fish, r"from generate' -l temp -x -d")
        self.assertIn("trace' --layer') return ;;", zsh)
        self.assertIn("trace' --out'|trace' -o') _files; return ;;", zsh)
        for shell, script in (("fish", fish), ("zsh", zsh)):
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script, encoding="utf-8", check=True, timeout=60)


class ExamplesTest(ModelCase):
    """The programs of README, beside dsv32."""

    def example(self, name, *words):
        file = os.path.join(os.path.dirname(cli_program.program), "..", name)
        if not os.path.exists(file):
            self.skipTest(f"no {name}")
        return subprocess.run([file, *map(str, words)], capture_output=True, encoding="utf-8", timeout=120)

    def test_reports_E3_thinking_and_answer_are_apart(self):
        done = self.example("dsv32-chat", self.model, "What is 47 + 38?")
        self.assertEqual(done.returncode, 0, done.stderr)
        thinking, answer = done.stdout.split("\n\n")
        self.assertRegex(thinking, r"^\(thinking\) \S")
        self.assertRegex(answer, r"^\S.*\n$")

    def test_reports_E3_it_streams(self):
        """The first words are there before the last ones: no buffer holds them back."""
        file = os.path.join(os.path.dirname(cli_program.program), "..", "dsv32-chat")
        if not os.path.exists(file):
            self.skipTest("no dsv32-chat")
        with subprocess.Popen([file, str(tiny_model()), "What is 47 + 38?"], stdout=subprocess.PIPE) as process:
            first = os.read(process.stdout.fileno(), 1 << 16)
            rest = process.stdout.read()
        self.assertTrue(first and rest)

    def test_reports_E3_the_agent_tells_its_steps(self):
        done = self.example("dsv32-agent", self.model, "What is the weather in Oslo?")
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertRegex(done.stdout, r"^\(thinking\) \S")
        self.assertNotRegex(done.stdout, r"(?m)^.+\((thinking|call|result)\) ")
        if "(call)" in done.stdout:
            self.assertRegex(done.stdout, r"(?m)^\(call\) .*\n\(result\) ")


if __name__ == "__main__":
    cli_program.main()
