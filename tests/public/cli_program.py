"""The program dsv32 for tests that drive it as a person or a script does: run, models, files read back."""
import array
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib

program = ""
source = pathlib.Path()
models = pathlib.Path()  # made of links, gone at the end


def clean_environment(**changes):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DSV32_", "HF_"))}
    environment.pop("NO_COLOR", None)
    environment.update({"LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(models / "state"), **changes})
    return environment


def run(*arguments, stdin="", **environment):
    return subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True,
                          encoding="utf-8", env=clean_environment(**environment), timeout=300)


def start(*arguments, ignore=(), **options):
    """A program that goes on beside the test, with signals as a shell gives them but for those to ignore."""
    def signals():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)
    pipe = subprocess.PIPE
    return subprocess.Popen([program, *map(str, arguments)], env=clean_environment(), preexec_fn=signals,
                            **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "restore_signals": True, **options})


def golden(name="fp8"):
    """The folder of a tiny checkpoint, without the answers that lie beside it."""
    folder = models / name
    if not folder.exists():
        folder.mkdir()
        for file in ("config.json", "model.safetensors"):
            (folder / file).symlink_to(source / "tests" / "golden" / "model" / name / file)
    return folder


def tiny_model():
    return pathlib.Path(os.environ.get("DSV32_CLI_TEST_MODEL", source / "examples" / "tiny_model"))


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def ok(self, *arguments, **options):
        result = run(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fails(self, code, *arguments, **options):
        result = run(*arguments, **options)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertTrue(result.stderr.startswith("dsv32: error: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        return result.stderr


class ModelCase(Case):
    """With a model that has a tokenizer."""

    def setUp(self):
        super().setUp()
        self.model = tiny_model()
        if not (self.model / "tokenizer.json").exists():
            self.skipTest(f"no model in {self.model}")


class ToolCase(Case):
    """With the bundled model's own question that needs a tool (demo.json)."""

    def setUp(self):
        super().setUp()
        demo = tiny_model() / "demo.json"
        if not demo.exists():
            self.skipTest(f"no {demo}")
        self.demo = json.loads(demo.read_text(encoding="utf-8"))["tool"]
        bundled = json.loads((source / "examples" / "tools" / "tools.json").read_text())
        self.entries = [next(e for e in bundled if e["function"]["name"] == name)
                        for name in self.demo["tools"]]
        self.system = self.demo.get("system", "You are a helpful assistant.")

    def options(self, command=None, timeout=2):
        """Every tool runs `command` instead of its own."""
        for entry in self.entries:
            own = str(source / "examples" / "tools" / entry["command"][0])
            entry.update(command=command or [own], timeout_s=timeout)
        tools = self.folder / "tools.json"
        tools.write_text(json.dumps(self.entries))
        return ("chat", tiny_model(), "--tools", tools, "--system", self.system, "--greedy",
                "-n", "400")


def has_line_editing():
    return b"libedit" in pathlib.Path(program).read_bytes()


class Terminal:
    """The program on a pseudo terminal."""

    def __init__(self, *arguments, **environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(program, [program, *map(str, arguments)], clean_environment(**environment))
        self.text = ""

    def wait_for(self, text, seconds=120):
        end = time.monotonic() + seconds
        while text not in self.text:
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} in {self.text!r}")
            if not self.read():
                raise AssertionError(f"ended without {text!r}: {self.text!r}")
        seen, self.text = self.text.split(text, 1)
        return seen

    def read(self):
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 4096)
        except OSError:
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, seconds=60):
        end = time.monotonic() + seconds
        while self.read():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = array.array({"F32": "f", "I32": "i"}[entry["dtype"]])
        values.frombytes(data[8 + length + begin:8 + length + end])
        tensors[name] = (entry["shape"], values)
    return tensors


def read_png(path):
    """Width, height, rows of bytes. Fails if a checksum is wrong."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at:at + 4])
        kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + size]
        (crc,) = struct.unpack(">I", data[at + 8 + size:at + 12 + size])
        assert crc == zlib.crc32(kind + body), kind
        chunks[kind] = body
        at += 12 + size
    assert kind == b"IEND"
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    return width, height, [raw[y * (width + 1) + 1:(y + 1) * (width + 1)] for y in range(height)]


def main():
    """Runs the tests of the calling file. usage: FILE PROGRAM SOURCE_DIR"""
    global program, source, models
    program = sys.argv.pop(1)
    source = pathlib.Path(sys.argv.pop(1)).resolve()
    with tempfile.TemporaryDirectory() as made:
        models = pathlib.Path(made)
        unittest.main(verbosity=2)
