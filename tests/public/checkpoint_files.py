"""Reads and writes checkpoints with nothing but Python: an oracle that shares no code with the program."""
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


def integers(tensors, name, cols):
    """Rows of the integers of an INT8 or INT4 matrix; the low nibble is the even column, 8 means 0."""
    dtype, (rows, stored), data = tensors[name]
    values = numbers(dtype, data)
    if dtype == "U8":
        values = [nibble - 8 for pair in values for nibble in (pair & 15, pair >> 4)]
        stored *= 2
    return [values[row * stored:row * stored + cols] for row in range(rows)]


def matrix(tensors, name, cols=None):
    """Rows of numbers, scales multiplied in; `cols` of them a row (only INT4 needs to be told)."""
    dtype, (rows, stored), data = tensors[name]
    cols = cols or stored
    if dtype in ("I8", "U8"):
        scale_dtype, (_, width), scale_data = tensors[name + "_scale"]
        group = 128 if width == -(-cols // 128) else 64
        scales = numbers(scale_dtype, scale_data)
        return [[value * scales[r * width + c // group] for c, value in enumerate(row)]
                for r, row in enumerate(integers(tensors, name, cols))]
    values = numbers(dtype, data)
    table = [values[row * cols:(row + 1) * cols] for row in range(rows)]
    if dtype != "F8_E4M3":
        return table
    scale_dtype, (_, width), scale_data = tensors[name + "_scale_inv"]
    scales = numbers(scale_dtype, scale_data)
    return [[value * scales[r // 128 * width + c // 128] for c, value in enumerate(row)]
            for r, row in enumerate(table)]


def write_checkpoint(folder, tensors, config):
    """The inverse of raw_tensors, as one file."""
    folder.mkdir(exist_ok=True)
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    body = b"".join(data for _, _, data in tensors.values())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "config.json").write_text(json.dumps(config))
