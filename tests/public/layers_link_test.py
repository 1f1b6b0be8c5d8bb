"""That layers_link.py sees an edge upwards. Usage: layers_link_test.py LAYERS_CMAKE CXX."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import layers_link  # noqa: E402

TABLE, COMPILER = sys.argv.pop(1), sys.argv.pop(1)


class LayersLinkTest(unittest.TestCase):
    def found(self, sources):
        """The faults in objects made of {layer: source}."""
        with tempfile.TemporaryDirectory() as folder:
            objects = []
            for layer, source in sources.items():
                path = pathlib.Path(folder) / f"dsv32_{layer}.dir" / "probe.cc.o"
                path.parent.mkdir()
                subprocess.run([COMPILER, "-x", "c++", "-c", "-o", path, "-"], input=source, text=True, check=True)
                objects.append((layers_link.layer_of(path), path.name, layers_link.symbols(path)))
            allowed = layers_link.allowed_edges(pathlib.Path(TABLE).read_text(encoding="utf-8"))
            return list(layers_link.faults(allowed, objects))

    def test_an_edge_upwards_is_seen(self):
        self.assertEqual(self.found({"weights": "int parse(int); int open(int x) { return parse(x); }",
                                     "model": "int parse(int x) { return x; }"}),
                         ["weights/probe.cc.o uses parse(int), which lies in model"])

    def test_an_edge_downwards_is_not(self):
        self.assertEqual(self.found({"model": "int parse(int); int open(int x) { return parse(x); }",
                                     "weights": "int parse(int x) { return x; }"}), [])

    def test_what_no_layer_defines_is_not(self):
        self.assertEqual(self.found({"base": "int elsewhere(int); int open(int x) { return elsewhere(x); }"}), [])

    def test_tables_and_virtual_functions_count(self):
        self.assertEqual(self.found({"text": "struct S { virtual ~S(); }; S::~S() = default; "
                                             "extern const int table; const int table = 3;",
                                     "base": "struct S { virtual ~S(); }; struct T : S {}; T t; "
                                             "extern const int table; int f() { return table; }"}),
                         ["base/probe.cc.o uses S::~S(), which lies in text",
                          "base/probe.cc.o uses typeinfo for S, which lies in text",
                          "base/probe.cc.o uses table, which lies in text"])

    def test_a_copy_in_a_layer_below_will_do(self):
        inline = "inline int shared(int x) { static int n = 0; return n += x; } "
        self.assertEqual(self.found({"base": inline + "int (*base_copy)(int) = shared;",
                                     "model": inline + "int (*model_copy)(int) = shared;",
                                     "text": "int shared(int); int f() { return shared(1); }"}), [])


if __name__ == "__main__":
    unittest.main()
