"""The program dsv32 for tests that drive it as a person or a script does: run, models, files read back."""
import array
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

program = ""
source = pathlib.Path()
models = pathlib.Path()  # made of links, gone at the end


def clean_environment(**changes):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DSV32_", "HF_"))}
    environment.pop("NO_COLOR", None)
    environment.update({"LC_ALL": "C.UTF-8", **changes})
    return environment


def run(*arguments, stdin="", **environment):
    return subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True,
                          encoding="utf-8", env=clean_environment(**environment), timeout=300)


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
