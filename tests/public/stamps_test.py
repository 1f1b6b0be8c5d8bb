"""That a check is repeated when anything changed that it depends on. Usage: stamps_test.py STAMP_SH."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

STAMP = pathlib.Path(sys.argv.pop(1)).resolve()
FILES = ("CMakeLists.txt", "CMakePresets.json", "cmake/flags.cmake", "lib/CMakeLists.txt", "lib/model/model.cc",
         "tests/CMakeLists.txt", "tests/kernels/standalone/CMakeLists.txt", "tests/unit/bpe_test.cc", "scripts/fuzz.sh")


class StampTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name in FILES:
            self.write(name, "before")
        for compiler in ("compiler", "other"):
            self.write_compiler(compiler, "12.2.0")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_compiler(self, name, version):
        self.write(name, f"#!/bin/sh\necho {version}\n")
        (self.root / name).chmod(0o755)

    def key(self, *words, compiler="./compiler"):
        words = words or ("lib", "--with", "./other", "--", "ctest", "--preset", "asan")
        command = ["bash", "-euo", "pipefail", "-c", f'. "{STAMP}"; stamp_key "$@"', "stamp", *words]
        return subprocess.run(command, cwd=self.root, env={**os.environ, "CXX": compiler}, check=True,
                              stdout=subprocess.PIPE).stdout

    def changes(self, what, *words):
        before = self.key(*words)
        what()
        return self.key(*words) != before

    def test_nothing_changed(self):
        self.assertFalse(self.changes(lambda: None))
        self.assertFalse(self.changes(lambda: (self.root / "lib/model/model.cc").touch()))

    def test_sources_under_its_paths(self):
        self.assertTrue(self.changes(lambda: self.write("lib/model/model.cc", "after")))
        self.assertFalse(self.changes(lambda: self.write("scripts/fuzz.sh", "after")))
        self.assertTrue(self.changes(lambda: self.write("lib/new.cc", "")))

    def test_the_description_of_the_build(self):
        for name in ("CMakeLists.txt", "CMakePresets.json", "cmake/flags.cmake", "lib/CMakeLists.txt",
                     "tests/CMakeLists.txt", "tests/kernels/standalone/CMakeLists.txt"):
            with self.subTest(name):
                self.assertTrue(self.changes(lambda: self.write(name, "after"), "scripts", "--", "true"))

    def test_compilers(self):
        self.assertTrue(self.changes(lambda: self.write_compiler("compiler", "13.1.0")))
        self.assertTrue(self.changes(lambda: self.write_compiler("other", "13.1.0")))
        self.assertFalse(self.changes(lambda: self.write_compiler("other", "14.1.0"), "lib", "--", "true"))
        self.assertNotEqual(self.key(compiler="./compiler"), self.key(compiler="./other"))

    def test_the_command(self):
        self.assertNotEqual(self.key("lib", "--", "fuzz", "20"), self.key("lib", "--", "fuzz", "60"))

    def test_a_missing_tool_has_a_key_too(self):
        self.assertNotEqual(self.key("lib", "--with", "./none", "--", "true"), self.key("lib", "--", "true"))


if __name__ == "__main__":
    unittest.main()
