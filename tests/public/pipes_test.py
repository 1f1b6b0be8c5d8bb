"""dsv32 in pipes and scripts: what goes in is whole, what comes out says how it ended.
usage: pipes_test.py PROGRAM SOURCE_DIR"""
import json
import os
import re
import signal
import subprocess
import time

import cli_program
from cli_program import ModelCase, ToolCase, run, start

MARK = "\ufeff"


class NumbersTest(ModelCase):
    def stats(self, *options):
        result = run("generate", self.model, "The", "--greedy", "--stats", "--json", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout), re.search("answer: .*", result.stderr).group()

    def test_reports_E4_tokens_a_second_are_those_of_decoding(self):
        _, told = self.stats("-n", "1")
        self.assertTrue(told.startswith("answer: 1 tokens (0 of thinking); keys"), told)
        out, told = self.stats("-n", "3")
        self.assertEqual(out["usage"]["generated_tokens"], 3)
        rate = float(re.search(r"([0-9.]+) tokens/s", told).group(1))
        want = 2 / out["usage"]["decode_seconds"]
        self.assertLess(abs(rate / want - 1), 0.01, (rate, want))

    def test_reports_E6_minus_one_is_random_or_unlimited(self):
        def answer(*options):
            return json.loads(self.ok("generate", self.model, "--chat", "--json", "Who are you?", *options))
        self.assertNotEqual(answer("-n", "1", "--seed", "-1")["seed"], answer("-n", "1", "--seed", "-1")["seed"])
        self.assertEqual(answer("-n", "1", "--seed", str(2**64 - 1))["seed"], 2**64 - 1)
        whole = answer("--greedy", "--think", "-n", "500")
        self.assertEqual(whole["finish_reason"], "stop")
        free = answer("--greedy", "--think", "-n", "-1", "--think-budget", "-1")
        self.assertEqual((free["reasoning"], free["content"]), (whole["reasoning"], whole["content"]))

    def test_reports_E6_other_numbers_are_refused(self):
        for option, values in (("--seed", ("-2", str(2**64), "1.5", "x", "", "1 ", "+1")),
                               ("-n", ("-5", "-2", "1.5", "99999999999999999999", "x", "k", "1q", "17179869184G")),
                               ("--think-budget", ("-2", "-1k", "99999999999999999999")),
                               ("--ctx", ("-1", "-5", "99999999999999999999", "1.5k")),
                               ("--batch", ("-1", "x"))):
            for value in values:
                self.fails(2, "generate", self.model, "x", option, value)
        for value, size in (("2", 2), ("0", 0)):
            self.assertEqual(self.stats("-n", value)[0]["usage"]["generated_tokens"], size)
        for value in ("1k", "1K", "1KB", "1 KiB", "1024"):
            self.assertIn("16 of 16", self.fails(4, "generate", self.model, "a " * 3000, "--ctx", value, "-n", "1"))


class EndingTest(ModelCase):
    def test_reports_E8_an_answer_that_was_cut_says_so(self):
        for options in (("chat", self.model), ("generate", self.model, "--chat", "--think")):
            result = run(*options, "--greedy", "-n", "5", stdin="Who are you?\n")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("(cut short before it answered at 5 tokens (-n); 5 tokens went into thinking "
                          "(--think-budget))\n", result.stderr)
            self.assertNotIn("cut", run("-q", *options, "--greedy", "-n", "5", stdin="Who are you?\n").stderr)
            self.assertNotIn("cut", run(*options, "--greedy", "-n", "300", stdin="Who are you?\n").stderr)
        self.assertIn("(cut short at 5 tokens (-n))",
                      run("generate", self.model, "--chat", "-n", "5", "--greedy", "Who are you?").stderr)
        self.assertIn("(cut short at 5 tokens (-n))", run("generate", self.model, "-n", "5", "The").stderr)

    def test_an_answer_that_goes_in_circles_ends_if_asked(self):
        def answer(*options):
            return run("generate", self.model, "--greedy", "-n", "400", "0 0 0 0 0 0 0", *options)
        looped, whole = answer("--loop"), answer()
        self.assertIn("(cut short: it goes in circles (--loop))", looped.stderr)
        self.assertIn("(cut short at 400 tokens (-n))", whole.stderr)
        self.assertTrue(whole.stdout.startswith(looped.stdout.rstrip("\n")))
        self.assertEqual(json.loads(answer("--loop", "--json").stdout)["finish_reason"], "repetition")

    def test_reports_E8_json_has_the_same_keys_everywhere(self):
        for options in (("The",), ("--chat", "Hi"), ("--ids", "[0, 5]")):
            out = json.loads(self.ok("generate", self.model, "--json", "-n", "3", *options))
            self.assertEqual((out["tool_calls"], out["faults"], out["stop_string"]), ([], [], ""))
        out = json.loads(self.ok("chat", self.model, "--json", "-n", "3", stdin="Hi\n"))
        (turn,) = out["turns"][0]["rounds"]
        self.assertEqual((turn["tool_calls"], turn["stop_string"], turn["faults"]), ([], "", ["unterminated_thinking"]
                         if turn["faults"] else []))

    def test_reports_E9_commands_show_without_a_word(self):
        out = self.ok("chat", self.model, "--greedy", stdin="/think\n/think\n/think off\n/think\n/think on\n/think\n"
                      "/system\n/system Be brief.\n/system\n/stats\n/drop\n/undo\n")
        on, off = "think: on (it thinks first)", "think: off (it answers at once)"
        shown = [line for line in out.splitlines() if not line.startswith("> ")]
        self.assertEqual(shown[:9], [on, on, off, off, on, on, "system: (none)", "system: Be brief.",
                                     "system: Be brief."])
        self.assertEqual(shown[9], "(no answer yet)")
        self.assertEqual(shown[-2:], ["(0 forgotten, 0 left)"] * 2)

    def test_reports_E11_quiet_repeats_no_question(self):
        for options, count in ((), 1), (("-q",), 0):
            out = self.ok(*options, "chat", self.model, "--greedy", "-n", "2", stdin="Who are you?\n")
            self.assertEqual(out.count("> Who are you?"), count, options)

    def test_reports_E9_a_reset_forgets_the_statistics(self):
        out = self.ok("chat", self.model, "--greedy", "-n", "9", stdin="Who are you?\n/stats\n/reset\n/stats\n")
        before, after = out.split("(forgotten)\n")
        self.assertRegex(before, r"answer: 9 tokens .*; ended by length")
        self.assertIn("(no answer yet)\nthe session holds 0 tokens; all its turns: {\"keys_visible\":0,", after)

    def test_reports_F14_the_oldest_exchanges_can_be_dropped(self):
        out = self.ok("chat", self.model, "--greedy", "-n", "9", "--no-think",
                      stdin="Who are you?\nHello\nHello\n/drop\n/drop 5\nHello\n/undo\n")
        for text in ("(1 forgotten, 2 left)", "(2 forgotten, 0 left)", "(1 forgotten, 0 left)"):
            self.assertIn(text, out)
        self.assertIn("/drop takes", run("chat", self.model, stdin="/drop 0\n").stderr)


class InputTest(ModelCase):
    def feed_slowly(self, command, parts):
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        process = start(*command, stdin=reading)
        os.close(reading)
        for part in parts:
            time.sleep(0.3)
            os.write(writing, part)
        os.close(writing)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, err)
        return out.decode()

    def test_reports_F3_a_stdin_that_does_not_block_is_read_to_its_end(self):
        self.assertEqual(self.feed_slowly(("tokenize", self.model), (b"The first ", b"and the ", b"rest")),
                         self.ok("tokenize", self.model, "The first and the rest"))
        out = self.feed_slowly(("chat", self.model), (b"/think off\n/thi", b"nk\n", b"/think on\n"))
        self.assertEqual([line[:9] for line in out.splitlines() if line[0] != ">"], ["think: of"] * 2 + ["think: on"])

    def test_reports_F3_a_stdin_that_cannot_be_read_is_an_error(self):
        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        for command in ("generate", "tokenize", "chat"):
            process = start(command, self.model, stdin=folder)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (2, b""), err)
            self.assertIn(b"cannot read stdin: Is a directory", err)
            process = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", cli_program.program, command, self.model],
                                     capture_output=True, env=cli_program.clean_environment(), timeout=60)
            self.assertEqual((process.returncode, process.stdout), (2, b""), process.stderr)
            self.assertIn(b"cannot read stdin", process.stderr)

    def test_reports_F4_a_byte_order_mark_is_no_text(self):
        file = self.folder / "text"
        file.write_text(MARK + "The")
        self.assertEqual(self.ok("tokenize", self.model, "-f", file), self.ok("tokenize", self.model, "The"))
        self.assertEqual(self.ok("tokenize", self.model, stdin=MARK + "The"), self.ok("tokenize", self.model, "The"))
        inside = self.ok("tokenize", self.model, stdin="The" + MARK)
        self.assertEqual(self.ok("tokenize", self.model, "--decode", inside.strip()), "The" + MARK)
        file.write_text(MARK + "/think off\n/think\n")
        self.assertEqual(self.ok("chat", self.model, "--script", file).count("think: off"), 2)
        self.assertEqual(self.ok("chat", self.model, stdin=MARK + "# a comment\n"), "")
        file.write_text(MARK + "[]")
        self.assertIn("(none;", self.ok("chat", self.model, "--tools", file, stdin="/tools\n"))

    def test_reports_F4_utf_16_is_refused_by_name(self):
        file = self.folder / "text"
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            file.write_bytes("[] Who are you?\n".encode(encoding))
            for command in (("tokenize", self.model, "-f", file), ("generate", self.model, "-f", file),
                            ("chat", self.model, "--script", file), ("chat", self.model, "--tools", file)):
                self.assertIn("UTF-16", self.fails(2, *command), (encoding, command))


class JsonTest(ModelCase):
    LONG = "a " * 3000

    def test_reports_F7_an_error_keeps_the_turns_before_it(self):
        options = ("chat", self.model, "--greedy", "-n", "20", "--ctx", "512")
        result = run(*options, "--json", stdin=f"Who are you?\n{self.LONG}\nnever\n")
        self.assertEqual(result.returncode, 4, result.stderr)
        first, second = json.loads(result.stdout)["turns"]
        self.assertEqual((first["user"], len(first["rounds"])), ("Who are you?", 1))
        self.assertNotIn("error", first)
        self.assertEqual((second["user"], second["rounds"]), (self.LONG, []))
        self.assertTrue(second["error"])
        result = run(*options, "--jsonl", stdin=f"Who are you?\n{self.LONG}\nnever\n")
        self.assertEqual(result.returncode, 4, result.stderr)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([line["user"] for line in lines], ["Who are you?", self.LONG])

    def test_reports_F7_ctrl_c_keeps_them_too(self):
        process = start("chat", self.model, "--json", "--greedy", "-n", "9")
        process.stdin.write(b"Who are you?\n")
        process.stdin.flush()
        time.sleep(3)  # it answers, and waits for the next line
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()  # the end of stdin is not what ends it
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        (turn,) = json.loads(out)["turns"]
        self.assertIn(turn["rounds"][0]["finish_reason"], ("length", "cancelled"))

    def test_reports_F7_a_line_of_json_comes_when_its_turn_ends(self):
        process = start("chat", self.model, "--jsonl", "--greedy", "-n", "9")
        for question in ("Who are you?", "Hello"):
            process.stdin.write(question.encode() + b"\n")
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline())["user"], question)
        out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (0, b""))


class GoneReaderTest(ModelCase):
    def ends_early(self, *command, stdin=b""):
        process = start(*command, "--temp", "100", "--top-p", "1", "-n", "2000", "--seed", "3",
                        restore_signals=False)  # SIGPIPE stays ignored
        process.stdout.close()
        process.stdin.write(stdin)
        process.stdin.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(300), 1, err)
        self.assertIn("cannot write to stdout: Broken pipe", err)
        return err

    def test_reports_F11_a_reader_that_is_gone_ends_it_at_once(self):
        for options in (("The",), ("The", "--json"), ("--ids", "[0, 5]"), ("--chat", "Hi"), ("--chat", "Hi", "--json"),
                        ("--chat", "--think", "Hi")):
            self.assertNotIn("answer:", self.ends_early("generate", self.model, "--stats", *options), options)
        for options in ((), ("--json",), ("--jsonl",), ("--hide-thinking",)):
            self.assertNotIn("cut short", self.ends_early("chat", self.model, *options, stdin=b"Hi\n"), options)


if __name__ == "__main__":
    cli_program.main()
