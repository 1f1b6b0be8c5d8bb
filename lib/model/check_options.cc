#include "lib/model/check_options.h"

#include <string>

#include "lib/backend/backend_kind.h"
#include "lib/base/check.h"
#include "lib/base/check_enum.h"
#include "lib/base/thread_pool.h"
#include "lib/model/page_pool.h"
#include "lib/model/step_inputs.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxCacheTokens = std::size_t{1} << 36;

void check_range(const char* field, int value, int most) {
  DSV32_CHECK(value >= 1 && value <= most, invalid_argument, "{} is {}, not in 1..{}", field, value,
              most);
}

}  // namespace

PlanOptions plan_options(const LoadOptions& o) {
  return {.device = o.backend.device,
          .device_index = o.backend.device_index,
          .module_path = o.backend.module_path,
          .numerics = o.numerics,
          .kv_format = o.kv_format,
          .indexer_keys = o.indexer_keys,
          .access = o.access,
          .kv_cache_tokens = o.kv_cache_tokens,
          .max_batch_tokens = o.max_batch_tokens,
          .max_sequences = o.max_sequences,
          .num_threads = pool_size(o.backend),
          .mtp = o.mtp,
          .ranks = o.communicator.size()};
}

void check_options(const PlanOptions& o) {
  check_enum("device", o.device, Device::cuda);
  check_enum("numerics", o.numerics, Numerics::exact);
  check_enum("kv_format", o.kv_format, KvFormat::bf16);
  check_enum("indexer_keys", o.indexer_keys, IndexerKeys::int8);
  check_enum("access", o.access, FileAccess::read);
  DSV32_CHECK(o.kv_cache_tokens >= 1 && o.kv_cache_tokens <= kMaxCacheTokens, invalid_argument,
              "kv_cache_tokens is {}, not in 1..{}", o.kv_cache_tokens, kMaxCacheTokens);
  check_range("max_batch_tokens", o.max_batch_tokens, kMaxRows);
  check_range("max_sequences", o.max_sequences, kMaxSequences);
  DSV32_CHECK(o.indexer_keys == IndexerKeys::fp8 || o.numerics == Numerics::native,
              invalid_argument,
              "indexer_keys is int8, an approximation: exact numerics do not go with it");
  DSV32_CHECK(o.ranks == 1, unsupported, "ranks is {}, this version runs one", o.ranks);
}

void check_options(const LoadOptions& o) {
  check_enum("verify", o.verify, Verify::all);
  if (o.chat_format) check_enum("chat_format", *o.chat_format, ChatFormat::v31);
  check_options(plan_options(o));
  static_cast<void>(backend_kind(o.backend.device).shapes(o.backend));  // refuses as open() would
}

}  // namespace dsv32
