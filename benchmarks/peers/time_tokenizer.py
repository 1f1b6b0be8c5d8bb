"""Seconds that a peer takes to encode a text. usage: time_tokenizer.py hf|tiktoken tokenizer.json text.txt

tiktoken gets the same vocabulary; its one pattern is the last of the tokenizer's three, so its tokens may differ a
little. The best of two runs is printed, then the number of tokens.
"""
import json
import sys
import time


def byte_of_character():
    """GPT-2's letters for bytes, back to bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(b): b for b in printable}
    return letters | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}


def tiktoken_encoder(path):
    import tiktoken
    data = json.load(open(path, encoding="utf-8"))
    letters = byte_of_character()
    ranks = {bytes(letters[c] for c in token): rank for token, rank in data["model"]["vocab"].items()
             if all(c in letters for c in token)}
    pattern = (r"\p{N}{1,3}|[一-龥぀-ゟ゠-ヿ]+|[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
               r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    encoding = tiktoken.Encoding("deepseek", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return encoding.encode_ordinary


def hf_encoder(path):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def main(kind, path, text_path):
    text = open(text_path, encoding="utf-8").read()
    encode = hf_encoder(path) if kind == "hf" else tiktoken_encoder(path)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        count = len(encode(text))
        best = min(best, time.perf_counter() - start)
    print(best, count)


main(*sys.argv[1:])
