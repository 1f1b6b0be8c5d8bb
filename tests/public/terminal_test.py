"""dsv32 as a person types to it. usage: terminal_test.py PROGRAM SOURCE_DIR"""
import os
import pathlib
import signal
import stat
import time
import unittest

import cli_program
from cli_program import ModelCase, Terminal, ToolCase, has_line_editing, run

ESC = "\x1b"
UP, HOME = ESC + "[A", ESC + "[H"
STOPPED = "(stopped; /undo forgets this exchange)"


class TypingCase(ModelCase):
    def open(self, *options, **environment):
        terminal = Terminal("chat", self.model, *options, **{"TERM": "xterm", **environment})
        terminal.wait_for("/help lists the commands")
        terminal.wait_for("> ")
        return terminal

    def endless(self, term):
        # So many tokens that the answer is still being written: no end token is allowed to win.
        return self.open("--temp", "100", "--top-p", "1", "-n", "-1", "--ctx", "100k", "--seed", "3", TERM=term)

    def leave(self, terminal):
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def ask_and_stop(self, terminal, term):
        terminal.type("Tell me a story\n")
        terminal.wait_for("(thinking)" if term == "dumb" else ESC + "[2m")
        terminal.type("\x03")
        terminal.wait_for(STOPPED)
        return terminal.wait_for("> ")


class InterruptTest(TypingCase):
    def test_reports_E2_one_ctrl_c_is_one(self):
        for term in ("xterm", "dumb"):
            terminal = self.endless(term)
            for _ in range(3):
                self.assertNotIn("to leave", self.ask_and_stop(terminal, term))
            time.sleep(0.2)
            terminal.read()
            self.assertNotIn("to leave", terminal.text)
            terminal.type("\x03")
            terminal.wait_for("to leave)")
            terminal.wait_for("> ")
            terminal.type("/tools\n")
            terminal.wait_for("(none; see --tools)")
            terminal.wait_for("> ")
            terminal.type("\x03")  # the first again
            terminal.wait_for("to leave)")
            terminal.wait_for("> ")
            self.leave(terminal)

    def test_reports_E9_what_was_said_stays_unless_it_is_dropped(self):
        for term in ("xterm", "dumb"):
            terminal = self.endless(term)
            self.ask_and_stop(terminal, term)
            self.ask_and_stop(terminal, term)  # behind a stopped answer
            for left in (1, 0, 0):
                terminal.type("/undo\n")
                terminal.wait_for(f" forgotten, {left} left)")
                terminal.wait_for("> ")
            self.leave(terminal)


    def test_reports_E2_a_signal_at_the_prompt_is_a_press(self):
        for term in ("xterm", "dumb"):
            terminal = self.open(TERM=term)
            os.kill(terminal.pid, signal.SIGINT)
            terminal.wait_for("to leave)")
            terminal.wait_for("> ")
            os.kill(terminal.pid, signal.SIGINT)
            self.assertEqual(terminal.end(), 130)


class EditingTest(TypingCase):
    def setUp(self):
        super().setUp()
        if not has_line_editing():
            self.skipTest("built without libedit")

    def state(self):
        return self.folder / "state" / "dsv32" / "history"

    def open(self, *options, **environment):
        return super().open(*options, **{"XDG_STATE_HOME": str(self.folder / "state"), **environment})

    def test_reports_E2_keys_and_a_history_that_outlives_the_program(self):
        os.umask(0)
        self.addCleanup(os.umask, 0o022)
        terminal = self.open()
        for keys in ("think off" + HOME + "/\n", UP + "\n"):
            time.sleep(0.5)
            terminal.type(keys)
            terminal.wait_for("think: off")
            terminal.wait_for("> ")
        self.leave(terminal)
        self.assertEqual(self.state().read_text(), "/think off\n/think off\n/exit\n")
        self.assertEqual(stat.S_IMODE(self.state().stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.state().parent.stat().st_mode), 0o700)
        terminal = self.open()
        time.sleep(0.5)
        terminal.type(UP + UP + "\n")
        terminal.wait_for("think: off")
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_E2_a_history_is_kept_short_and_private(self):
        self.state().parent.mkdir(parents=True)
        self.state().write_text("".join(f"line {n}\n" for n in range(3000)))
        self.state().chmod(0o644)
        self.leave(self.open())
        self.assertEqual(self.state().read_text().splitlines(), [f"line {n}" for n in range(2000, 3000)] + ["/exit"])
        self.assertEqual(stat.S_IMODE(self.state().stat().st_mode), 0o600)

    def test_reports_E2_without_a_place_for_it_there_is_no_history(self):
        (self.folder / "state").write_text("a file")
        terminal = self.open()
        terminal.type("/think off\n")
        terminal.wait_for("think: off")
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_E2_no_history_of_pipes_and_of_plain_terminals(self):
        run("chat", self.model, stdin="/tools\n", XDG_STATE_HOME=str(self.folder / "state"))
        self.leave(self.open(TERM="dumb"))
        self.assertFalse(self.state().exists())

    def test_reports_E2_ctrl_c_drops_the_typed_line_alone(self):
        terminal = self.open()
        for _ in range(3):
            terminal.type("half a line")
            terminal.wait_for("half a line")
            terminal.type("\x03")
            self.assertNotIn("to leave", terminal.wait_for("> "))
        terminal.type("/tools\n")
        terminal.wait_for("(none; see --tools)")
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_E2_ctrl_z_gives_the_shell_its_terminal(self):
        terminal = self.open()
        terminal.type("/thi")
        terminal.wait_for("/thi")
        terminal.type("\x1a")
        self.assertTrue(os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED)[1]))
        os.kill(terminal.pid, signal.SIGCONT)
        time.sleep(0.2)
        terminal.type("nk off\n")
        terminal.wait_for("think: off")
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_F3_a_long_typed_line_is_whole(self):
        terminal = self.open()
        time.sleep(0.5)
        terminal.type("/" + "y" * 6000 + "\n")
        terminal.wait_for("error:")
        self.assertEqual(terminal.wait_for("(try /help)").count("y"), 6000)
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_F3_so_it_is_while_an_answer_is_written_or_it_is_not_sent(self):
        terminal = self.open("--temp", "100", "--top-p", "1", "-n", "200")
        terminal.type("Tell me a story\n")
        terminal.wait_for(ESC + "[2m")
        terminal.type("/" + "y" * 6000)
        time.sleep(0.1)
        terminal.read()
        terminal.type("\n")
        end = time.monotonic() + 60
        while "nothing was sent" not in terminal.text and "(try /help)" not in terminal.text:
            self.assertLess(time.monotonic(), end)
            terminal.read()
        whole = "(try /help)" in terminal.text
        seen = terminal.wait_for("(try /help)" if whole else "nothing was sent")
        if whole:
            self.assertTrue(seen.endswith("/" + "y" * 6000 + " "), seen[-6100:])
        terminal.wait_for("> ")  # what is typed while no one edits is no end of input
        self.leave(terminal)


class PlainTest(TypingCase):
    def test_reports_F3_a_line_that_the_terminal_cuts_is_not_sent(self):
        terminal = self.open(TERM="dumb")
        terminal.type("/" + "y" * 6000)
        time.sleep(0.2)  # its end comes when there is room
        terminal.read()
        terminal.type("\n")
        terminal.wait_for("nothing was sent")
        terminal.wait_for("> ")
        self.leave(terminal)
        terminal = Terminal("tokenize", self.model)
        terminal.type("y" * 6000 + "\n")
        time.sleep(0.2)
        terminal.type("\x04")
        terminal.wait_for("cuts lines")
        self.assertEqual(terminal.end(), 2)

    def test_reports_E8_a_dim_line_says_that_an_answer_was_cut(self):
        terminal = self.open("--greedy", "-n", "5")
        terminal.type("Who are you?\n")
        terminal.wait_for(ESC + "[2m(cut short before it answered at 5 tokens (-n); 5 tokens went into thinking")
        terminal.wait_for(ESC + "[0m")
        terminal.wait_for("> ")
        self.leave(terminal)

    def test_reports_F14_a_full_context_has_a_way_out(self):
        terminal = self.open("--greedy", "-n", "60", "--ctx", "256", TERM="dumb")
        question = "Who are you?\n"
        for _ in range(20):
            terminal.type(question)
            seen = terminal.wait_for("> ")
            if "error" in seen:
                break
        self.assertIn("/drop forgets the oldest exchange", seen)
        terminal.type("/drop 1000\n")
        terminal.wait_for(" forgotten, 0 left)")
        terminal.wait_for("> ")
        terminal.type(question)
        self.assertNotIn("error", terminal.wait_for("> "))
        self.leave(terminal)


class ForeignTest(ToolCase):
    def test_reports_E5_what_a_tool_prints_is_visible_on_a_terminal(self):
        command = ["printf", r"\033[31mred\302\233m\233m\177gr\303\274n\r\377"]
        terminal = Terminal(*self.options(command), "--max-tool-rounds", "1", TERM="dumb")
        terminal.wait_for("> ")
        terminal.type(self.demo["question"] + "\n")
        terminal.wait_for("tool result: ")
        self.assertEqual(terminal.wait_for("\r\n"), r"\x1b[31mred\x9bm\x9bm\x7fgr" + "\u00fc" + r"n\x0d\xff")
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)
        piped = cli_program.start(*self.options(command), "--max-tool-rounds", "1")
        out, _ = piped.communicate(self.demo["question"].encode() + b"\n", timeout=300)
        self.assertIn(b"tool result: \033[31mred\302\233m\233m\177gr\303\274n\r\377\n", out)

    def test_reports_E9_a_conversation_goes_on_behind_a_stopped_tool(self):
        terminal = Terminal(*self.options(["sleep", "1000"], timeout=900), TERM="dumb")
        terminal.wait_for("> ")
        terminal.type(self.demo["question"] + "\n")
        terminal.wait_for("tool call:")
        terminal.type("\x03")
        terminal.wait_for(STOPPED, seconds=20)
        terminal.wait_for("> ")
        terminal.type("Who are you?\n")
        self.assertNotIn("error:", terminal.wait_for("> "))
        for left in (1, 0):
            terminal.type("/undo\n")
            terminal.wait_for(f"(1 forgotten, {left} left)")
            terminal.wait_for("> ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)


class ForeignTextTest(ModelCase):
    def test_reports_E5_what_a_model_writes_is_visible_on_a_terminal_and_raw_in_a_pipe(self):
        text = "a\x1b[31mb\x7fc\u009bd\u00fc\r"
        file = self.folder / "text"
        file.write_bytes(text.encode())
        ids = self.ok("tokenize", self.model, "-f", file).strip()
        terminal = Terminal("tokenize", self.model, "--decode", ids)
        self.assertTrue(terminal.wait_for("\\x0d").endswith("a\\x1b[31mb\\x7fc\\x9bd\u00fc"))
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(pathlib.Path(file).read_bytes(), cli_program.start(
            "tokenize", self.model, "--decode", ids).communicate(timeout=60)[0])
        self.assertEqual(self.ok("tokenize", self.model, "--decode", "--json", ids),
                         r'{"text":"a\u001b[31mb\u007fc\u009bd' + "\u00fc" + r'\r"}' + "\n")


if __name__ == "__main__":
    cli_program.main()
