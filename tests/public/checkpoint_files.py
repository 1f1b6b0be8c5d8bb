"""Reads a checkpoint's folder with nothing but Python: an oracle that shares no code with the program."""
import array
import json
import math
import struct


def e4m3(code):
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> 3 & 15, code & 7
    if code & 0x7F == 0x7F:
        return math.nan
    return sign * (math.ldexp(mantissa, -9) if exponent == 0 else math.ldexp(8 + mantissa, exponent - 10))


E4M3 = [e4m3(code) for code in range(256)]


def bf16(data):
    words = array.array("H", data)
    return array.array("f", array.array("I", [word << 16 for word in words]).tobytes()).tolist()


def numbers(dtype, data):
    if dtype == "BF16":
        return bf16(data)
    if dtype == "F8_E4M3":
        return [E4M3[code] for code in data]
    if dtype == "F8_E8M0":
        return [math.ldexp(1.0, code - 127) for code in data]
    if dtype == "F16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    return array.array({"F32": "f", "I32": "i", "I8": "b", "U8": "B"}[dtype], data).tolist()


def raw_tensors(folder):
    """name -> (dtype, shape, bytes), of all shards; checks that their ranges tile the files."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        header.pop("__metadata__", None)
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, stop = entry["data_offsets"]
            assert begin == end, name
            end = stop
            assert name not in tensors, name
            tensors[name] = (entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + stop])
        assert 8 + length + end == len(data), path
    return tensors


def matrix(tensors, name):
    """Rows of numbers, scales multiplied in."""
    dtype, (rows, cols), data = tensors[name]
    values = numbers(dtype, data)
    table = [values[row * cols:(row + 1) * cols] for row in range(rows)]
    if dtype != "F8_E4M3":
        return table
    scale_dtype, (_, width), scale_data = tensors[name + "_scale_inv"]
    scales = numbers(scale_dtype, scale_data)
    return [[value * scales[r // 128 * width + c // 128] for c, value in enumerate(row)]
            for r, row in enumerate(table)]
