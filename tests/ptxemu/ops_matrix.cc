// PTX ISA 9.7.14 "Warp Level Matrix Multiply-Accumulate Instructions": mma.sync, ldmatrix,
// stmatrix, movmatrix. Which lane holds which element is here; what a tensor core makes of them is
// in tensor_units.h.
#include <cstring>

#include "tests/ptxemu/access.h"
#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/meter.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

constexpr int kM = 16, kN = 8;

// "Matrix Fragments for mma.m16n8k16" and "... m16n8k32": a lane is in group g = lane / 4, and t
// = lane % 4 in it. A word of A or B holds neighbours in k: two of 16 bits or four of 8, from
// t * that number on; words 1 and 3 of A are eight rows below, words 2 and 3 (of B: 1) half of k
// on.
struct Tiles {
  std::uint16_t a[kM * 32], b[32 * kN];
  std::uint32_t c[kM * kN];
};

void gather(Warp& w, const u32* slots, int k, Tiles& tiles) {
  const int each = k / 8, bits = 32 / each;  // elements of a word
  const u32 mask = (1u << bits) - 1;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int word = 0; word < 4; ++word) {
      const u32 a = w.lanes<u32>(slots[4 + word])[lane];
      const int row = g + 8 * (word & 1), from = (word >> 1) * k / 2 + t * each;
      for (int e = 0; e < each; ++e) {
        tiles.a[row * k + from + e] = static_cast<u16>(a >> (bits * e) & mask);
      }
      tiles.c[(g + 8 * (word >> 1)) * kN + 2 * t + (word & 1)] =
          w.lanes<u32>(slots[10 + word])[lane];
    }
    for (int word = 0; word < 2; ++word) {
      const u32 b = w.lanes<u32>(slots[8 + word])[lane];
      const int from = word * k / 2 + t * each;
      for (int e = 0; e < each; ++e) {
        tiles.b[(from + e) * kN + g] = static_cast<u16>(b >> (bits * e) & mask);
      }
    }
  }
}

// detail: TensorType.
void run_mma(Warp& w, const Instruction& i, Lanes) {
  const auto type = static_cast<TensorType>(i.detail);
  const Mode mode = w.block->grid->options.mode;
  if (const char* why = tensor_refusal(mode, type, TensorInstruction::mma_sync)) {
    return end(w, i, 0, Kind::bad_instruction, "%s", why);
  }
  const u32* slots = w.frame->function->lists.data() + i.list;
  const int k = type == TensorType::bf16 ? 16 : 32;
  Tiles tiles;
  gather(w, slots, k, tiles);
  tensor_mma(mode, type, TensorInstruction::mma_sync, {kM, kN, k}, tiles.a, tiles.b, tiles.c,
             tiles.c);
  if (Meter* meter = w.block->grid->options.meter) {
    meter->tensor(2ull * kM * kN * static_cast<unsigned>(k));
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int word = 0; word < 4; ++word) {
      const int row = lane / 4 + 8 * (word >> 1), column = 2 * (lane % 4) + (word & 1);
      w.lanes<u32>(slots[word])[lane] = tiles.c[row * kN + column];
    }
  }
}

// Rows of 16 bytes of up to four 8x8 matrices; lane r of the m-th eight lanes has the address of
// row r of matrix m. Lane l holds elements (l / 4, 2 * (l % 4)) and the next, transposed on demand.
using Matrices = std::uint16_t[4][8][8];

u16& element(Matrices& m, int matrix, int lane, int which, bool transposed) {
  const int row = lane / 4, column = 2 * (lane % 4) + which;
  return transposed ? m[matrix][column][row] : m[matrix][row][column];
}

// detail: transposed.
void run_ldmatrix(Warp& w, const Instruction& i, Lanes mask) {
  Matrices matrices;
  std::memset(matrices, 0xff, sizeof matrices);
  Address addresses[kLanes] = {};
  for (unsigned lane = 0; lane < 8u * i.count; ++lane) {
    addresses[lane] = address_of(w, i, i.reg[0], lane);
  }
  const Lanes rows = i.count == 4 ? kAllLanes : (1u << 8u * i.count) - 1;
  measure(w, i, mask & rows, Space::shared, addresses, 16, kReads);
  for (unsigned lane = 0; lane < 8u * i.count; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const std::byte* from = locate(w, i, lane, Space::shared, addresses[lane], 16, kReads);
    if (from != nullptr) std::memcpy(matrices[lane / 8][lane % 8], from, 16);
  }
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (int k = 0; k < i.count; ++k) {
    u32* to = w.lanes<u32>(slots[k]);
    for_lanes(mask, [&](int lane) {
      to[lane] = element(matrices, k, lane, 0, i.detail != 0) |
                 u32{element(matrices, k, lane, 1, i.detail != 0)} << 16;
    });
  }
}

void run_stmatrix(Warp& w, const Instruction& i, Lanes mask) {
  Matrices matrices = {};
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (int k = 0; k < i.count; ++k) {
    const u32* from = w.lanes<u32>(slots[k]);
    for_lanes(mask, [&](int lane) {
      element(matrices, k, lane, 0, i.detail != 0) = static_cast<u16>(from[lane]);
      element(matrices, k, lane, 1, i.detail != 0) = static_cast<u16>(from[lane] >> 16);
    });
  }
  for (unsigned lane = 0; lane < 8u * i.count; ++lane) {
    if (!(mask >> lane & 1)) continue;
    std::byte* to =
        locate(w, i, lane, Space::shared, address_of(w, i, i.reg[0], lane), 16, kWrites);
    if (to != nullptr) std::memcpy(to, matrices[lane / 8][lane % 8], 16);
  }
}

void run_movmatrix(Warp& w, const Instruction& i, Lanes mask) {
  Matrices matrices = {};
  const u32* from = w.lanes<u32>(i.reg[1]);
  for_lanes(mask, [&](int lane) {
    element(matrices, 0, lane, 0, false) = static_cast<u16>(from[lane]);
    element(matrices, 0, lane, 1, false) = static_cast<u16>(from[lane] >> 16);
  });
  u32* to = w.lanes<u32>(i.reg[0]);
  for_lanes(mask, [&](int lane) {
    to[lane] = element(matrices, 0, lane, 0, true) | u32{element(matrices, 0, lane, 1, true)} << 16;
  });
}

void matrices_of(Decoder& decoder, const Statement& s, Instruction& i, int data) {
  const std::size_t count = s.has("x1") ? 1 : s.has("x2") ? 2 : s.has("x4") ? 4 : 0;
  const bool known = s.has("sync") && s.has("aligned") && s.has("m8n8") && s.type() == "b16" &&
                     (s.has("shared") || s.has("shared::cta"));
  if (!known || count == 0 || s.operands.size() != 2)
    decoder.fail("no such form of an instruction");
  const Operand& registers = s.operands[static_cast<std::size_t>(data)];
  const std::vector<Operand> one{registers};
  const std::vector<Operand>& parts = registers.type == Operand::Type::list ? registers.parts : one;
  if (parts.size() != count) decoder.fail("not as many registers as matrices");
  decoder.vector(parts, i, 4, data == 0);
  decoder.address(s.operands[static_cast<std::size_t>(1 - data)], i, 0);
  i.detail = s.has("trans");
  i.flow = Flow::sync;
}

}  // namespace

void decode_mma(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.mnemonic == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32") {
    i.detail = static_cast<std::uint8_t>(TensorType::bf16);
  } else if (s.mnemonic == "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32") {
    i.detail = static_cast<std::uint8_t>(TensorType::e4m3);
  } else {
    decoder.fail("no such shape or type of mma");
  }
  static constexpr std::size_t kCounts[] = {4, 4, 2, 4};
  std::vector<Operand> sources;
  for (std::size_t k = 0; k < 4; ++k) {
    if (s.operands.size() != 4 || s.operands[k].parts.size() != kCounts[k]) {
      decoder.fail("not as many registers as the fragment has");
    }
    if (k > 0) {
      sources.insert(sources.end(), s.operands[k].parts.begin(), s.operands[k].parts.end());
    }
  }
  decoder.vector(s.operands[0].parts, i, 4, true);
  for (const Operand& part : sources) decoder.add_to_list(i, decoder.source(part, 4));
  i.flow = Flow::sync;
  i.run = run_mma;
}

void decode_ldmatrix(Decoder& decoder, const Statement& s, Instruction& i) {
  matrices_of(decoder, s, i, 0);
  i.run = run_ldmatrix;
}

void decode_stmatrix(Decoder& decoder, const Statement& s, Instruction& i) {
  matrices_of(decoder, s, i, 1);
  i.run = run_stmatrix;
}

void decode_movmatrix(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.mnemonic != "movmatrix.sync.aligned.m8n8.trans.b16" || s.operands.size() != 2) {
    decoder.fail("no such form of movmatrix");
  }
  i.reg[1] = decoder.source(s.operands[1], 4);
  i.reg[0] = decoder.target(s.operands[0], 4);
  i.flow = Flow::sync;
  i.run = run_movmatrix;
}

}  // namespace dsv32::ptxemu
