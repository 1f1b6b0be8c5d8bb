"""What runs when dsv32 ends ends with it. usage: signals_test.py PROGRAM SOURCE_DIR"""
import pathlib
import signal
import time

import cli_program
from cli_program import ToolCase, start


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class GroupTest(ToolCase):
    def command(self):
        self.pids = self.folder / "pids"
        script = f'sleep 1000 & echo $$ $! > {self.pids}.part; mv {self.pids}.part {self.pids}; sleep 1000'
        return self.options(["sh", "-c", script], timeout=900)

    def running(self):
        self.wait_until(self.pids.exists, 120)
        pids = [int(pid) for pid in self.pids.read_text().split()]
        self.pids.unlink()
        self.assertEqual([is_alive(pid) for pid in pids], [True, True])
        return pids

    def wait_until(self, happens, seconds):
        end = time.monotonic() + seconds
        while not happens():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def ask(self, **options):
        process = start(*self.command(), **options)
        process.stdin.write(self.demo["question"].encode() + b"\n")
        process.stdin.flush()
        return process, self.running()

    def ended(self, process, pids, code):
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, code)
        self.wait_until(lambda: not any(map(is_alive, pids)), 5)

    def test_reports_F6_a_tools_group_ends_with_the_program(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            process, pids = self.ask()
            process.send_signal(number)
            self.ended(process, pids, -number)

    def test_reports_F6_so_it_does_with_two_ctrl_c(self):
        process, pids = self.ask()
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)  # or they are one
        process.send_signal(signal.SIGINT)
        self.ended(process, pids, 130)

    def test_reports_F6_a_signal_that_is_ignored_stays_so(self):
        process, pids = self.ask(ignore=(signal.SIGHUP,))
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.ended(process, pids, -signal.SIGTERM)

    def test_reports_F6_a_tool_leaves_nothing_behind(self):
        pids = self.folder / "pids"
        script = f"sleep 1000 >&- & echo $$ $! > {pids}; echo done"
        process = start(*self.options(["sh", "-c", script], timeout=900), "--max-tool-rounds", "1")
        out, _ = process.communicate(self.demo["question"].encode() + b"\n", timeout=120)
        self.assertIn(b"tool result: done\n", out)
        self.wait_until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()), 5)


if __name__ == "__main__":
    cli_program.main()
