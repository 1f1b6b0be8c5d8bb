"""Writes a random GGUF of DeepSeek-V3.2 for llama.cpp, of real width or small: one dense layer, one MoE layer of 32
experts, as LayerBench's models of two layers. usage: make_gguf.py OUT.gguf [q8_0|bf16|mini] (needs PyPI's `gguf`)
"""
import sys

import gguf
import numpy

HIDDEN, VOCAB, HEADS, EXPERTS = 7168, 4096, 128, 32
Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 1536, 512, 128, 64, 128
INDEX_HEADS, INDEX_DIM, MLP, MOE_MLP = 64, 128, 18432, 2048
KIND = sys.argv[2] if len(sys.argv) > 2 else "q8_0"
if KIND == "mini":  # Q8_0; indexer and cache stay
    HIDDEN, HEADS, Q_RANK, MLP, MOE_MLP = 1024, 16, 512, 4096, 512
TYPE = gguf.GGMLQuantizationType["BF16" if KIND == "bf16" else "Q8_0"]

rng = numpy.random.default_rng(1)
# Blocks of 32 weights: an f16 scale and 32 int8, or 32 BF16. Every tensor is a piece of this.
BLOCKS = EXPERTS * MOE_MLP * HIDDEN // 32
if TYPE == gguf.GGMLQuantizationType.Q8_0:
    pool = rng.integers(0, 256, (BLOCKS, 34), dtype=numpy.uint8)
    pool[:, :2] = numpy.frombuffer(numpy.float16(1 / 8192).tobytes(), dtype=numpy.uint8)
else:  # sign and mantissa at random, 2^-7
    pool = (rng.integers(0, 65536, (BLOCKS, 32), dtype=numpy.uint16) & 0x807F | 0x3C00).view(numpy.uint8)


def matrix(writer, name, *shape):
    """shape in numpy's order: columns last."""
    count = 1
    for n in shape:
        count *= n
    data = pool[: count // 32].reshape(*shape[:-1], shape[-1] // 32 * pool.shape[1])
    writer.add_tensor(name, data, raw_dtype=TYPE)


def f32(writer, name, *shape, scale=0.0):
    writer.add_tensor(name, (1 - scale + scale * rng.standard_normal(shape)).astype(numpy.float32))


def metadata(w):
    w.add_context_length(16384)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(2)
    w.add_feed_forward_length(MLP)
    w.add_head_count(HEADS)
    w.add_head_count_kv(1)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_vocab_size(VOCAB)
    w.add_tokenizer_model("no_vocab")
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(ROPE)
    w.add_q_lora_rank(Q_RANK)
    w.add_kv_lora_rank(KV_RANK)
    w.add_key_length(KV_RANK + ROPE)
    w.add_value_length(KV_RANK)
    w.add_key_length_mla(NOPE + ROPE)
    w.add_value_length_mla(VALUE)
    w.add_leading_dense_block_count(1)
    w.add_expert_count(EXPERTS)
    w.add_expert_used_count(8)
    w.add_expert_feed_forward_length(MOE_MLP)
    w.add_expert_shared_count(1)
    w.add_expert_weights_scale(2.5)
    w.add_expert_weights_norm(True)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_uint32("deepseek32.attention.indexer.head_count", INDEX_HEADS)
    w.add_uint32("deepseek32.attention.indexer.key_length", INDEX_DIM)
    w.add_uint32("deepseek32.attention.indexer.top_k", 2048)


def layer(w, i):
    p = f"blk.{i}."
    for name, n in (("attn_norm", HIDDEN), ("attn_q_a_norm", Q_RANK), ("attn_kv_a_norm", KV_RANK), ("ffn_norm", HIDDEN)):
        f32(w, p + name + ".weight", n)
    matrix(w, p + "attn_q_a.weight", Q_RANK, HIDDEN)
    matrix(w, p + "attn_q_b.weight", HEADS * (NOPE + ROPE), Q_RANK)
    matrix(w, p + "attn_kv_a_mqa.weight", KV_RANK + ROPE, HIDDEN)
    matrix(w, p + "attn_k_b.weight", HEADS, KV_RANK, NOPE)
    matrix(w, p + "attn_v_b.weight", HEADS, VALUE, KV_RANK)
    matrix(w, p + "attn_output.weight", HIDDEN, HEADS * VALUE)
    f32(w, p + "indexer.k_norm.weight", INDEX_DIM)
    f32(w, p + "indexer.k_norm.bias", INDEX_DIM, scale=0.1)
    matrix(w, p + "indexer.proj.weight", INDEX_HEADS, HIDDEN)
    matrix(w, p + "indexer.attn_k.weight", INDEX_DIM, HIDDEN)
    matrix(w, p + "indexer.attn_q_b.weight", INDEX_HEADS * INDEX_DIM, Q_RANK)
    if i == 0:
        matrix(w, p + "ffn_gate.weight", MLP, HIDDEN)
        matrix(w, p + "ffn_up.weight", MLP, HIDDEN)
        matrix(w, p + "ffn_down.weight", HIDDEN, MLP)
        return
    f32(w, p + "ffn_gate_inp.weight", EXPERTS, HIDDEN, scale=0.02)
    f32(w, p + "exp_probs_b.bias", EXPERTS)
    matrix(w, p + "ffn_gate_exps.weight", EXPERTS, MOE_MLP, HIDDEN)
    matrix(w, p + "ffn_up_exps.weight", EXPERTS, MOE_MLP, HIDDEN)
    matrix(w, p + "ffn_down_exps.weight", EXPERTS, HIDDEN, MOE_MLP)
    matrix(w, p + "ffn_gate_shexp.weight", MOE_MLP, HIDDEN)
    matrix(w, p + "ffn_up_shexp.weight", MOE_MLP, HIDDEN)
    matrix(w, p + "ffn_down_shexp.weight", HIDDEN, MOE_MLP)


def main(out):
    w = gguf.GGUFWriter(out, "deepseek32")
    metadata(w)
    matrix(w, "token_embd.weight", VOCAB, HIDDEN)
    f32(w, "output_norm.weight", HIDDEN)
    matrix(w, "output.weight", VOCAB, HIDDEN)
    for i in range(2):
        layer(w, i)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main(sys.argv[1])
