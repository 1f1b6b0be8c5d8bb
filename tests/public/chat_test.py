"""Tools of `dsv32 chat`, and its REPL on a terminal. usage: chat_test.py PROGRAM SOURCE_DIR"""
import json
import time

import cli_program
from cli_program import ModelCase, Terminal, ToolCase, run

ESC = "\x1b"


class ToolTest(ToolCase):
    def first_result(self, command):
        result = run(*self.options(command), "--json", "--max-tool-rounds", "1",
                     stdin=self.demo["question"] + "\n")
        self.assertEqual(result.returncode, 1, result.stderr)  # one round cannot be enough
        return json.loads(result.stdout)["turns"][0]["rounds"][0]["tool_calls"][0]

    def test_call_result_answer(self):
        out = json.loads(self.ok(*self.options(), "--json", stdin=self.demo["question"] + "\n"))
        first, second = out["turns"][0]["rounds"]
        calls = [{"name": c["name"], "arguments": c["arguments"]} for c in first["tool_calls"]]
        self.assertEqual(calls, self.demo["calls"])
        self.assertTrue(first["reasoning"])
        for word in self.demo["expect"]:
            self.assertIn(word, first["tool_calls"][0]["result"])
            self.assertIn(word, second["content"])
        shown = self.ok(*self.options(), stdin=self.demo["question"] + "\n")
        self.assertIn('tool call: {"name":', shown)
        self.assertIn("tool result: ", shown)
        self.assertNotIn("DSML", shown)

    def test_arguments_arrive_on_stdin(self):
        call = self.first_result(["cat"])
        self.assertEqual(json.loads(call["result"]), self.demo["calls"][0]["arguments"])

    def test_tools_that_misbehave(self):
        for command, word in (([str(self.folder / "absent")], "cannot run"),
                              (["false"], "exit status 1"),
                              (["sh", "-c", "kill -9 $$"], "signal 9"),
                              (["yes"], "64 KiB"),
                              (["sleep", "100"], "in time"),
                              (["sh", "-c", "exec >&-; sleep 100"], "in time"),
                              (["sh", "-c", "sleep 100 & echo x"], "in time")):
            started = time.monotonic()
            call = self.first_result(command)
            self.assertFalse(call["ok"], command)
            self.assertIn(word, json.loads(call["result"])["error"])
            self.assertLess(time.monotonic() - started, 60)

    def test_tool_that_reads_nothing_and_prints_bytes(self):
        call = self.first_result(["printf", r"\377\033[31m"])
        self.assertTrue(call["ok"])

    def test_ctrl_c_kills_a_tool(self):
        terminal = Terminal(*self.options(["sleep", "1000"], timeout=900), TERM="dumb")
        terminal.wait_for("> ")
        terminal.type(self.demo["question"] + "\n")
        terminal.wait_for("tool call:")
        terminal.type("\x03")
        terminal.wait_for("(stopped; /undo forgets this exchange)", seconds=20)
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)


class ReplTest(ModelCase):
    def open(self, *options, **environment):
        terminal = Terminal("chat", self.model, "--greedy", *options,
                            **{"TERM": "xterm", **environment})
        terminal.wait_for("/help lists the commands")
        terminal.wait_for("> ")
        return terminal

    def test_conversation_with_dim_thinking(self):
        terminal = self.open()
        terminal.type("Who are you?\n")
        terminal.wait_for(ESC + "[2m")
        terminal.wait_for(ESC + "[0m")
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_no_color_and_dumb_terminal(self):
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            terminal = self.open(**environment)
            terminal.type("Who are you?\n")
            seen = terminal.wait_for("(thinking)")
            seen += terminal.wait_for("> ")
            self.assertNotIn(ESC + "[2m", seen)
            terminal.type("/exit\n")
            self.assertEqual(terminal.end(), 0)

    def test_ctrl_c_stops_the_answer_then_quits(self):
        for term in ("xterm", "dumb"):
            # So many tokens that the answer is still being written: no end token is allowed to win.
            terminal = Terminal("chat", self.model, "--temp", "100", "--top-p", "1", "-n", "100k",
                                "--ctx", "100k", "--seed", "3", TERM=term)
            terminal.wait_for("> ")
            terminal.type("Tell me a story\n")
            terminal.wait_for("(thinking)" if term == "dumb" else ESC + "[2m")
            terminal.type("\x03")
            terminal.wait_for("(stopped; /undo forgets this exchange)")
            self.assertNotIn("to leave", terminal.wait_for("> "))
            terminal.type("\x03")
            terminal.wait_for("to leave)")
            terminal.wait_for("> ")
            terminal.type("\x03")
            self.assertEqual(terminal.end(), 130)

    def test_ctrl_c_twice_at_the_prompt_quits(self):
        for term in ("xterm", "dumb"):
            terminal = self.open(TERM=term)
            terminal.type("\x03")
            terminal.wait_for("to leave)")
            terminal.type("\x03")
            self.assertEqual(terminal.end(), 130)

    def test_end_of_input_leaves(self):
        terminal = self.open()
        terminal.type("\x04")
        self.assertEqual(terminal.end(), 0)


if __name__ == "__main__":
    cli_program.main()
