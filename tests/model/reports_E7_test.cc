// Messages for people.
#include <vector>

#include "dsv32/session.h"

#include "lib/base/format.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {

TEST_CASE("reports_E7 sizes are in units that people read") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(1023) == "1023 B");
  CHECK(human_bytes(1024) == "1.0 KiB");
  CHECK(human_bytes(689471107200) == "642.1 GiB");
  CHECK(human_bytes(std::size_t{5000} << 40) == "5000.0 TiB");
}

TEST_CASE("reports_E7 nothing is behind nothing") {
  const Model model = Model::load(golden("fp8"), {.kv_cache_tokens = 1024});
  const auto most = static_cast<std::size_t>(model.config().max_position_embeddings);
  Session session(model);
  const std::vector<TokenId> tokens(most + 1, 1);
  const std::string whole = check_error(ErrorCode::context_length, "tokens are more than the",
                                        [&] { session.append(tokens); });
  CHECK(whole.find("behind") == std::string::npos);
  session.append(std::span(tokens).first(3));
  check_error(ErrorCode::context_length, " behind 3 are more than the",
              [&] { session.append(std::span(tokens).first(most - 2)); });
}

}  // namespace dsv32::test
