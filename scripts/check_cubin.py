#!/usr/bin/env python3
"""Looks into every cubin: no spills, registers and shared memory within the manifest, the instructions that a kernel is made for.

The manifest, kernels/cuda/manifest.toml, has for each kernel the most registers a thread and bytes of shared memory a block that any
architecture may take, and opcodes that must be there. nvdisasm comes from the path or from ./scripts/cuda-toolkit.sh --tools. Exit: 0
all in order, 1 not, 77 no nvdisasm."""
import argparse
import collections
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "kernels/cuda/manifest.toml"
KINDS = ("HMMA", "LDSM", "LDGSTS")  # what --write lists of the instructions there are
SPILLS = ("STL", "LDL")


class Kernel:
    def __init__(self):
        self.registers = self.shared = 0
        self.opcodes = collections.Counter()


def sections(elf):
    """(name, header, bytes) of each section of a 64-bit ELF file."""
    at, = struct.unpack_from("<Q", elf, 0x28)
    count, names = struct.unpack_from("<HH", elf, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, at + 64 * i) for i in range(count)]
    strings = headers[names][4]
    for h in headers:
        start = strings + h[0]
        body = b"" if h[1] == 8 else elf[h[4]:h[4] + h[5]]  # 8: NOBITS
        yield elf[start:elf.index(b"\0", start)].decode(), h, body


def resources(path, kernels):
    """Registers from .nv.info (EIATTR_REGCOUNT: symbol, count), static shared memory from the sections' sizes."""
    elf = path.read_bytes()
    found = {name: (header, body) for name, header, body in sections(elf)}
    symbols, strings = found[".symtab"][1], found[".strtab"][1]

    def symbol(i):
        start, = struct.unpack_from("<I", symbols, 24 * i)
        return strings[start:strings.index(b"\0", start)].decode()

    info, at = found[".nv.info"][1], 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4 and attribute == 0x2F:
            index, registers = struct.unpack_from("<II", info, at + 4)
            kernels[symbol(index)].registers = registers
        at += 4 + (size if form == 4 else 0)
    for name, (header, _) in found.items():
        if name.startswith(".nv.shared.dsv32"):
            kernels[name.removeprefix(".nv.shared.")].shared = header[5]


def disassemble(nvdisasm, path):
    kernels = collections.defaultdict(Kernel)
    resources(path, kernels)
    text = subprocess.run([nvdisasm, "-c", path], capture_output=True, text=True, check=True).stdout
    name = None
    for line in text.splitlines():
        if section := re.search(r"\.section\s+\.text\.(\w+)", line):
            name = section[1]
        elif name and (code := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)", line)):
            kernels[name].opcodes[code[1]] += 1
    return {name: kernel for name, kernel in kernels.items() if name.startswith("dsv32_")}


def problems(name, kernel, wanted):
    if wanted is None:
        return ["is not in the manifest"]
    out = [f"has {kernel.opcodes[code]} {code}: it spills" for code in SPILLS if kernel.opcodes[code]]
    for what, most in (("registers", wanted["registers"]), ("shared", wanted["shared"])):
        if getattr(kernel, what) > most:
            out.append(f"takes {getattr(kernel, what)} {what}, the manifest allows {most}")
    return out + [f"has no {code}" for code in wanted.get("opcodes", []) if not kernel.opcodes[code]]


def write(all_kernels):
    print("# What each kernel may take, on any architecture: scripts/check_cubin.py.")
    for name in sorted({name for _, kernels in all_kernels for name in kernels}):
        here = [kernels[name] for _, kernels in all_kernels if name in kernels]
        codes = [code for code in KINDS if all(k.opcodes[code] for k in here)]
        print(f"\n[{name}]\nregisters = {max(k.registers for k in here)}\nshared = {max(k.shared for k in here)}")
        if codes:
            print("opcodes = [" + ", ".join(f'"{code}"' for code in codes) + "]")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="of *.sm_NN.cubin: build/cuda/lib/backend/cuda/kernels")
    parser.add_argument("--write", action="store_true", help="print a manifest of what is")
    arguments = parser.parse_args()
    nvdisasm = shutil.which("nvdisasm") or shutil.which("nvdisasm", path=ROOT / ".deps/cuda-tools/bin")
    if not nvdisasm:
        print("skipped: no nvdisasm (./scripts/cuda-toolkit.sh --tools brings it)")
        return 77
    all_kernels = [(path.name, disassemble(nvdisasm, path)) for path in sorted(arguments.folder.glob("*.cubin"))]
    if not all_kernels:
        print(f"no cubins in {arguments.folder}")
        return 1
    if arguments.write:
        write(all_kernels)
        return 0
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    failed, seen = 0, set()
    for file, kernels in all_kernels:
        for name, kernel in kernels.items():
            seen.add(name)
            for problem in problems(name, kernel, manifest.get(name)):
                print(f"{file}: {name} {problem}")
                failed += 1
    for name in sorted(set(manifest) - seen):
        print(f"{name} is in the manifest and in no cubin")
        failed += 1
    print(f"{sum(len(kernels) for _, kernels in all_kernels)} kernels in {len(all_kernels)} cubins, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
