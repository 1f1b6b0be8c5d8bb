#!/usr/bin/env python3
"""Predicts what the GPU's kernels take, from what the emulated GPU counts: a model, no measurement.

Counted, at full inner sizes: bytes of global memory that differ, that L2 gives and that DRAM gives, passes of shared
memory, FLOP of tensor cores, instructions of warps (of PTX, of which ptxas makes fewer). A kernel takes the longest of
what each resource needs for them; how long a load takes is no part of it. Beside it: the least that DRAM and
tensor cores allow, and figures that others published for kernels of the same shape, from the sources named below.

Needs what `cmake --build --preset cuda` builds. Exit: 0, or 1 where more is moved than the tests allow."""
import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MULTIPROCESSORS = 108
PROGRAM = "tests/cuda/cuda_kernel_tests"


@dataclasses.dataclass(frozen=True)
class Gpu:
    """NVIDIA's data sheets and white papers; `mma` is the part of the peak that mma.sync reaches."""
    name: str
    sms: int
    ghz: float
    tflops: float          # dense BF16 with f32 sums
    dram: float            # TB/s
    shared_kb: int         # of a multiprocessor
    mma: float = 1.0

    L2_BYTES_A_CLOCK = 40  # of a multiprocessor: 5,120 over 108 of an A100, taken for all


GPUS = (Gpu("A100", 108, 1.41, 312, 2.04, 164), Gpu("L40S", 142, 2.52, 362, 0.864, 100),
        # mma.sync there: arXiv 2402.13499, about 62 % of what wgmma reaches.
        Gpu("H100", 132, 1.83, 989, 3.35, 228, 0.62), Gpu("H200", 132, 1.83, 989, 4.8, 228, 0.62),
        Gpu("RTX 5090", 170, 2.41, 209.5, 1.792, 100))

# (kernel, m, n, k): microseconds on H800, H100's compute and DRAM, from the repositories' own pages: DeepGEMM's README
# at a6d97a1 (M = 64; FP8 tensor cores), FlashMLA's deep dive of 2025-09-29 (128 requests, two queries each).
PUBLISHED = {("linear", 64, 2112, 7168): 2 * 64 * 2112 * 7168 / 206e6, ("linear", 64, 4096, 7168): 2 * 64 * 4096 * 7168 / 287e6,
             ("linear", 64, 7168, 2048): 2 * 64 * 7168 * 2048 / 295e6,
             ("attention", 256, 128, 2048): 256 * 2 * 2048 * 128 * (576 + 512) / 410e6}


@dataclasses.dataclass
class Cost:
    """A launch's counts; all of them grow by the same for each further block."""
    blocks: float
    threads: int
    shared: int
    unique_bytes: float
    dram_bytes: float
    l2_bytes: float
    tensor_flop: float
    shared_passes: float
    instructions: float
    function: str

    GROWS = ("blocks", "unique_bytes", "dram_bytes", "l2_bytes", "tensor_flop", "shared_passes", "instructions")

    def grown(self, other, steps):
        """What `steps` times the difference between this one and another makes of this one."""
        grown = {name: getattr(self, name) + steps * (getattr(other, name) - getattr(self, name)) for name in self.GROWS}
        return dataclasses.replace(self, **grown)


def count(build):
    """(kernel, m, n, k) -> Cost, from the tests of costs."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "costs.json"
        result = subprocess.run([build / PROGRAM, "[costs]"], env=dict(os.environ, DSV32_COSTS=str(path)),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if result.returncode or not rows:
        print(result.stdout[-3000:])
        raise SystemExit(1)
    names = {field.name for field in dataclasses.fields(Cost)}
    return {(row["kernel"], row["m"], row["n"], row["k"]): Cost(**{k: v for k, v in row.items() if k in names})
            for row in rows}


def predict(gpu, cost):
    """(microseconds, which resource, microseconds that DRAM and tensor cores need at least)."""
    hertz = gpu.ghz * 1e9
    waves = -(-cost.blocks // gpu.sms)  # of blocks, one a multiprocessor
    of_block = {"tensor cores": cost.tensor_flop / cost.blocks / (gpu.tflops * gpu.mma * 1e12 / gpu.sms),
                "L2": cost.l2_bytes / cost.blocks / (Gpu.L2_BYTES_A_CLOCK * hertz),
                "shared memory": cost.shared_passes / cost.blocks / hertz,
                "instructions": cost.instructions / cost.blocks / (4 * hertz)}
    need = {name: waves * seconds for name, seconds in of_block.items()}
    need["DRAM"] = cost.dram_bytes / (gpu.dram * 1e12)
    limit = max(need, key=need.get)
    least = max(cost.dram_bytes / (gpu.dram * 1e12), cost.tensor_flop / (gpu.tflops * 1e12))
    return need[limit] * 1e6, limit, least * 1e6


def shapes(counted):
    """(title, key, Cost): whole shapes of V3.2, grown from slices of them."""
    def linear(m, n, k):
        low, high = counted["linear", m, 128, k], counted["linear", m, 256, k]
        return f"linear {m} x [{n}, {k}]", ("linear", m, n, k), low.grown(high, (n - 128) / 128)

    def attention(queries):
        heads = next((n for n in (16, 32) if queries * 128 / n <= MULTIPROCESSORS), 64)  # launch.h: sparse_mla_heads
        one, two = (counted[f"sparse_mla_{heads}", m, 128, 2048] for m in (1, 2))
        return (f"sparse_mla {queries} queries of 128 heads, 2,048 keys", ("attention", queries, 128, 2048),
                one.grown(two, queries - 1))

    def scores(queries, keys):
        low, high = counted["index_scores", 1, 64, 4096], counted["index_scores", 1, 64, 8192]
        one = low.grown(high, keys / 4096 - 1)
        grown = {name: queries * getattr(one, name) for name in Cost.GROWS}
        return (f"index_scores {queries} queries, {keys:,} keys", ("index_scores", queries, 64, keys),
                dataclasses.replace(one, **grown))
    for m in (1, 64):
        for n, k in ((2112, 7168), (4096, 7168), (7168, 2048)):
            yield linear(m, n, k)
    for queries in (1, 64, 256):
        yield attention(queries)
    for queries, keys in ((1, 32768), (64, 8192)):
        yield scores(queries, keys)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build/cuda", help="the folder of the build")
    arguments = parser.parse_args()
    if not (arguments.build / PROGRAM).exists():
        raise SystemExit("no build/cuda: ./scripts/cuda-toolkit.sh && cmake --preset cuda && cmake --build --preset cuda")
    manifest = tomllib.loads((ROOT / "kernels/cuda/manifest.toml").read_text(encoding="utf-8"))
    counted = count(arguments.build)
    print("predicted, not measured; us, and us that DRAM and tensor cores need at least\n")
    print(f"{'':52}" + "".join(f"{gpu.name:>20}" for gpu in GPUS) + f"{'published (H800)':>20}")
    for title, key, cost in shapes(counted):
        told = []
        for gpu in GPUS:
            fits = manifest[cost.function]["shared"] + cost.shared <= (gpu.shared_kb - 1) * 1024
            microseconds, _, least = predict(gpu, cost)
            told.append(f"{microseconds:.1f} ({least:.1f})" if fits else "other kernel")
        told.append(f"{PUBLISHED[key]:.1f}" if key in PUBLISHED else "")
        print(f"{title:52}" + "".join(f"{text:>20}" for text in told))
    print("\nwhat limits, on an H200; bytes over those that differ, of DRAM and of L2")
    for title, _, cost in shapes(counted):
        _, limit, _ = predict(GPUS[3], cost)
        print(f"{title:52}{limit:>20}{cost.dram_bytes / cost.unique_bytes:>20.2f}{cost.l2_bytes / cost.unique_bytes:>20.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
