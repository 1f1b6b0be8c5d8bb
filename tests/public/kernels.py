"""Kernel files against their rules: what their sources may say, how they are compiled, what their objects hold.

An object for one instruction set that defined a weak symbol might lend its copy to the whole program, which then dies
on an older machine. One that the compiler fuses products in has other bits with another compiler. One that allocates
or throws breaks what the pool promises. usage: kernels.py SOURCE_DIR COMPILE_COMMANDS OBJECT...
"""
import json
import pathlib
import platform
import re
import subprocess
import sys

MAY_CALL = {"memcpy", "memmove", "memset", "memcmp", "sqrtf", "_GLOBAL_OFFSET_TABLE_"}  # the last on some machines
MAY_NAME = re.compile(r"std::(byte|memcpy|memset|memmove|size_t|ptrdiff_t|u?int(8|16|32|64|ptr)_t)\b")
UNFIT_FLAGS = ("-ffast-math", "-Ofast", "-march=native", "-funsafe-math-optimizations", "-fassociative-math")
FUSED = re.compile(r"\bvf(n?)m(add|sub)\w*|\bfn?m(add|sub|la|ls)\b")
PORTABLE = "isa_generic.cc"  # without products fused by hand
UNFUSED = {"logit_maxima", "logit_weights"}  # these are without in every file: the same bits everywhere


def tool(*arguments):
    return subprocess.run([*map(str, arguments)], check=True, capture_output=True, text=True).stdout


def source_faults(path):
    text = path.read_text(encoding="utf-8")
    code = re.sub(r'//[^\n]*|"[^"\n]*"|\[\[[^\]]*\]\] ?', "", text)
    for word in re.findall(r"std::\w+", code):
        if not MAY_NAME.fullmatch(word):
            yield f"{path.name} uses {word}"
    for word in re.findall(r"\b(?:asm|__asm__|throw|try|new|malloc|virtual|thread_local)\b", code):
        yield f"{path.name} says {word!r}"
    if path.name.endswith("-inl.h"):
        for name in re.findall(r"^(?!static|template|constexpr|struct|using|namespace|#|\s|[{}/]|enum)\S.*?(\w+)\(", code,
                               re.M):
            yield f"{path.name} defines {name}, which is not static"


def flag_faults(entry):
    name, flags = pathlib.Path(entry["file"]).name, entry["command"].split()
    contract = [flag for flag in flags if flag.startswith("-ffp-contract")]
    if not contract or contract[-1] != "-ffp-contract=off":
        yield f"{name} is compiled without -ffp-contract=off"
    for flag in UNFIT_FLAGS:
        if flag in flags:
            yield f"{name} is compiled with {flag}"


def object_faults(path):
    name = path.name.removesuffix(".o")
    shown = []
    for line in tool("nm", "-C", path).splitlines():
        kind, symbol = line[17:18], line[19:].split("@")[0]
        if kind in "WVu" or kind == "w":
            yield f"{name} has the weak symbol {symbol}"
        if kind == "U" and symbol not in MAY_CALL:
            yield f"{name} calls {symbol}"
        if kind in "TDBRC":
            shown.append(symbol)
    if len(shown) != 1 or not re.search(r"::table$", shown[0]):
        yield f"{name} shows {shown}, not its table alone"
    assembly = tool("objdump", "-dC", "--no-show-raw-insn", path)
    if name == PORTABLE and (fused := FUSED.search(assembly)):
        yield f"{name} has a fused product: {fused[0]}"
    bodies = dict(re.findall(r"^[0-9a-f]+ <(?:\w+::)*(\w+)\([^\n]*>:\n(.*?)(?=\n\n|\Z)", assembly, re.M | re.S))
    for function in sorted(UNFUSED):
        if function not in bodies:
            yield f"{name} has no function {function}"
        elif fused := FUSED.search(bodies[function]):
            yield f"{name} has a fused product in {function}: {fused[0]}"
    if platform.machine() in ("x86_64", "AMD64"):
        wide = re.search(r"%[yz]mm\d", assembly) is not None
        if wide == (name == PORTABLE):
            yield f"{name} has {'' if wide else 'no '}AVX code"


def main(root, commands, *objects):
    faults = []
    sources = sorted((root / "kernels" / "cpu").glob("*-inl.h")) + sorted((root / "kernels" / "cpu").glob("isa_*.cc"))
    for path in sources:
        faults += source_faults(path)
    files = [path for path in objects if path.name.startswith("isa_")]
    built = {path.name.removesuffix(".o") for path in files}
    if platform.machine() in ("x86_64", "AMD64"):
        faults += [f"{path.name} is not part of the library" for path in sources
                   if path.name.endswith(".cc") and path.name not in built]
    for path in files:
        faults += object_faults(path)
    folders = {f"/{part}/" for path in objects for part in path.parts if part.endswith(".dir")}
    entries = [entry for entry in json.loads(commands.read_text()) if any(f in entry["command"] for f in folders) and
               re.search(r"/(isa_\w+|reference|candidates|sampler)\.cc$", entry["file"])]
    for entry in entries:
        faults += flag_faults(entry)
    if not built <= {pathlib.Path(entry["file"]).name for entry in entries}:
        faults.append("the compile commands lack a kernel file")
    print("\n".join(faults) or f"{len(sources)} sources, {len(files)} objects, {len(entries)} commands: as they should be")
    return 1 if faults or not files else 0


sys.exit(main(*map(pathlib.Path, sys.argv[1:])))
