"""Layers as the linker sees them: which layer's objects use what another's define.

An include check does not see a class that is declared in a public header and defined in a layer above. The table of
who may use whom is that of layers.cmake. usage: layers_link.py LAYERS_CMAKE OBJECT...
"""
import collections
import pathlib
import re
import subprocess
import sys


def allowed_edges(text):
    """Layer to the layers it may use, from the `set(allowed_...)` lines of layers.cmake."""
    rows = re.findall(r'^set\(allowed_(\S+)\s+"([^"]+)"\)', text, re.M)
    return {folder.removeprefix("lib/"): {name.removeprefix("lib/") for name in names.split("|")}
            for folder, names in rows if folder == "kernels" or folder.startswith("lib/")}


def layer_of(path):
    """The layer of an object that CMake put into .../dsv32_<layer>.dir/..."""
    found = re.search(r"/dsv32_(\w+)\.dir/", str(path))
    return found and found[1]


def symbols(path):
    """(symbols it defines for others, symbols it needs)."""
    defined, needed = set(), set()
    for line in subprocess.run(["nm", "-g", str(path)], check=True, capture_output=True, text=True).stdout.splitlines():
        *_, kind, name = line.split()
        (needed if kind == "U" else defined).add(name)
    return defined, needed - defined


def faults(allowed, objects):
    """Yields a line for each edge that `allowed` has not. objects: (layer, name, (defined, needed))."""
    homes = collections.defaultdict(set)
    for layer, _, (defined, _) in objects:
        for symbol in defined:
            homes[symbol].add(layer)
    for layer, name, (_, needed) in objects:
        for symbol in sorted(needed):
            homes_of_it = homes.get(symbol, set())
            if homes_of_it and not homes_of_it & (allowed[layer] | {layer}):
                yield f"{layer}/{name} uses {readable(symbol)}, which lies in {' and '.join(sorted(homes_of_it))}"


def readable(symbol):
    return subprocess.run(["c++filt", symbol], check=True, capture_output=True, text=True).stdout.strip()


def main(table, *paths):
    allowed = allowed_edges(pathlib.Path(table).read_text(encoding="utf-8"))
    problems = [f"{path} is in no layer" for path in paths if layer_of(path) not in allowed]
    problems += [f"no object of {layer}" for layer in sorted(allowed.keys() - set(map(layer_of, paths)))]
    objects = [(layer_of(path), pathlib.Path(path).name, symbols(path)) for path in paths if layer_of(path) in allowed]
    problems += faults(allowed, objects)
    print("\n".join(problems) or f"{len(objects)} objects of {len(allowed)} layers: every edge leads down")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
