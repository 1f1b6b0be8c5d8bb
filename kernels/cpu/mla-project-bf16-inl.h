// What mla-absorb-bf16-inl.h and mla-expand-bf16-inl.h share: BF16 activations against FP8 or BF16
// weights of heads. With few tokens these are a race against memory (16.8 MB a layer), with many
// one against the peak.
//
// A weight is dequantised and rounded to BF16 by the table of its scale, which says it for all 256
// codes: exact, whatever the scale. Each head's weights become BF16 once for all tokens of a call,
// a first-level cache's worth at a time, while the same lines of the next head are fetched. Few
// tokens meet them in the registers in which they are decoded.

// Where a call's parts lie in mla_project_scratch().
struct ProjectScratch {
  CodeTable* tables;       // [blocks of rows of a head][blocks of columns]
  std::byte* weights;      // absorb: 64 columns of a head; expand: kExpandRows rows
  std::byte* activations;  // [num_tokens][nope or latent] BF16
  std::byte* out;          // expand: [num_tokens][v] BF16 of one head; the rows that they go to lie
                           // a power of two apart, in a few sets of a cache
};

static ProjectScratch project_scratch(float* scratch, int rows, int width, int latent) {
  ProjectScratch s{};
  s.tables = reinterpret_cast<CodeTable*>(scratch);
  s.weights = reinterpret_cast<std::byte*>(s.tables + mla_project_tables(rows, latent));
  s.activations = s.weights + 2 * std::int64_t{mla_project_weights(rows, latent)};
  s.out = s.activations + std::int64_t{2} * kRowTile * width;
  return s;
}

static bool takes_bf16_project(const Matrix& kv_b, ValueType type, int nope, int v, int latent) {
  return type == ValueType::bf16 && latent % kColumns == 0 && nope % 2 == 0 && v % 2 == 0 &&
         (kv_b.type == ValueType::bf16 || kv_b.type == ValueType::e4m3);
}

// The BF16 value of every code times `scale`, rounded. A negative scale flips the sign bit, which
// decode_codes takes as it comes.
static void make_scaled_table(float scale, CodeTable* out) {
  if (is_table_scale(scale)) {
    *out = *code_table(scale);
    return;
  }
  alignas(64) std::uint8_t code[64];
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 64; ++i) code[i] = static_cast<std::uint8_t>(64 * half + i);
    __m512i first, second;
    dequantise_codes(_mm512_load_si512(code), scale, load_lut(code_table(1.0f)), &first, &second);
    const __m512i mask = _mm512_set1_epi16(255);
    _mm512_store_si512(out->low + 64 * half, _mm512_packus_epi16(_mm512_and_si512(first, mask),
                                                                 _mm512_and_si512(second, mask)));
    _mm512_store_si512(out->high + 64 * half, _mm512_packus_epi16(_mm512_srli_epi16(first, 8),
                                                                  _mm512_srli_epi16(second, 8)));
  }
}

// The tables of rows [first, first + rows).
static void make_project_tables(const Matrix& w, std::int64_t first, int rows, int latent,
                                CodeTable* out) {
  if (w.type != ValueType::e4m3) return;
  const std::int64_t last = (first + rows - 1) / kBlock;
  for (std::int64_t block = first / kBlock; block <= last; ++block) {
    for (int c = 0; c < latent; c += kBlock) {
      make_scaled_table(block_scale(w, block * kBlock, c), out++);
    }
  }
}
