// `dsv32 trace`: what happened inside, as a safetensors file and as a picture.
#include <algorithm>
#include <memory>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/picture.h"
#include "cli/safetensors_writer.h"

namespace cli {
namespace {

struct TraceCommand {
  ModelOptions model{};
  std::string ids{};
  std::string prompt_file{};
  std::vector<std::string> beside{};
  std::string out{};
  std::string picture{};
  std::size_t chunk = 0;
  int layer = -1;
};

// The whole sequence's, from one chunk after another.
class Recording {
 public:
  Recording(const dsv32::Model& model, std::size_t tokens, bool mtp, bool logits)
      : config_(model.config()),
        tokens_(tokens),
        layers_(static_cast<std::size_t>(config_.num_hidden_layers)),
        moe_layers_(layers_ -
                    std::min(layers_, static_cast<std::size_t>(config_.first_k_dense_replace))),
        vocab_(static_cast<std::size_t>(config_.vocab_size)),
        keys_(model.is_sparse() ? std::min(static_cast<std::size_t>(config_.index_topk), tokens)
                                : 0),
        experts_per_token_(static_cast<std::size_t>(config_.num_experts_per_tok)),
        has_mtp_logits_(mtp) {
    if (logits) logits_.resize(tokens * vocab_);
    if (mtp) mtp_logits_.resize((tokens - 1) * vocab_);
    selection_.assign(layers_ * tokens * keys_, -1);
    experts_.assign(moe_layers_ * tokens * experts_per_token_, -1);
  }

  dsv32::TraceOptions wanted() const {
    return {.logits = !logits_.empty(),
            .selection = keys_ > 0,
            .experts = moe_layers_ > 0,
            .mtp_logits = !mtp_logits_.empty()};
  }

  void add(const dsv32::Trace& trace) {
    const auto first = static_cast<std::size_t>(trace.first_position);
    const auto count = static_cast<std::size_t>(trace.num_tokens);
    copy_rows(trace.logits, first, vocab_, logits_);
    copy_rows(trace.mtp_logits, static_cast<std::size_t>(trace.mtp_first_position), vocab_,
              mtp_logits_);
    copy_layers(trace.selection, layers_, first, count, keys_, selection_);
    copy_layers(trace.experts, moe_layers_, first, count, experts_per_token_, experts_);
  }

  std::vector<OutTensor> tensors() const {
    std::vector<OutTensor> result;
    const auto put = [&](const char* name, const char* dtype, std::vector<std::size_t> shape,
                         std::span<const std::byte> data, bool even_empty = false) {
      if (!data.empty() || even_empty) result.push_back({name, dtype, std::move(shape), data});
    };
    put("logits", "F32", {tokens_, vocab_}, std::as_bytes(std::span(logits_)));
    put("topk", "I32", {layers_, tokens_, keys_}, std::as_bytes(std::span(selection_)));
    put("experts", "I32", {moe_layers_, tokens_, experts_per_token_},
        std::as_bytes(std::span(experts_)));
    put("mtp_logits", "F32", {tokens_ - 1, vocab_}, std::as_bytes(std::span(mtp_logits_)),
        has_mtp_logits_);
    return result;
  }

  HeatMap picture(int layer) const {
    std::vector<int> chosen;
    std::span<const std::int32_t> part = selection_;
    if (layer >= 0) {
      chosen = {layer};
      part = part.subspan(static_cast<std::size_t>(layer) * tokens_ * keys_, tokens_ * keys_);
    } else {
      for (int i = 0; i < config_.num_hidden_layers; ++i) chosen.push_back(i);
    }
    return draw(part, tokens_, keys_, chosen);
  }

 private:
  static void copy_rows(std::span<const float> from, std::size_t first, std::size_t width,
                        std::vector<float>& to) {
    const std::size_t at = first * width;
    if (at >= to.size()) return;
    std::copy_n(from.begin(), std::min(from.size(), to.size() - at),
                to.begin() + static_cast<std::ptrdiff_t>(at));
  }

  // [layers, count, any width] into [layers, tokens, width]; what is cut off is -1 anyway.
  void copy_layers(std::span<const std::int32_t> from, std::size_t layers, std::size_t first,
                   std::size_t count, std::size_t width, std::vector<std::int32_t>& to) const {
    if (from.empty() || width == 0) return;
    const std::size_t stride = from.size() / (layers * count);
    for (std::size_t row = 0; row < layers * count; ++row) {
      const std::size_t position = row / count * tokens_ + first + row % count;
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(row * stride), std::min(stride, width),
                  to.begin() + static_cast<std::ptrdiff_t>(position * width));
    }
  }

  const dsv32::ModelConfig config_;
  std::size_t tokens_;
  std::size_t layers_;
  std::size_t moe_layers_;
  std::size_t vocab_;
  std::size_t keys_;  // 0: dense
  std::size_t experts_per_token_;
  bool has_mtp_logits_;  // even of one token, which has none
  std::vector<float> logits_;
  std::vector<float> mtp_logits_;
  std::vector<std::int32_t> selection_;
  std::vector<std::int32_t> experts_;
};

// The config may promise an MTP layer that the files lack.
bool has_mtp(const std::filesystem::path& dir) {
  const auto checkpoint = dsv32::Checkpoint::open(dir);
  const dsv32::ModelConfig& config = checkpoint.config();
  const std::string prefix = "model.layers." + std::to_string(config.num_hidden_layers) + ".";
  const auto tensors = checkpoint.tensors();
  return config.num_nextn_predict_layers > 0 &&
         std::any_of(tensors.begin(), tensors.end(), [&](const dsv32::TensorInfo& tensor) {
           return tensor.name.starts_with(prefix);
         });
}

std::vector<dsv32::TokenId> input_ids(const TraceCommand& command,
                                      const std::filesystem::path& dir) {
  if (command.ids.empty() == command.prompt_file.empty())
    throw UsageError("give either --ids or --prompt-file");
  std::vector<dsv32::TokenId> ids = command.ids.empty()
                                        ? dsv32::Tokenizer::load(dir / "tokenizer.json")
                                              .encode(read_text(command.prompt_file), true)
                                        : parse_ids(read_text(command.ids));
  if (ids.empty()) throw UsageError("there are no tokens");
  return ids;
}

void check_picture(const TraceCommand& command) {
  if (command.out.empty() && command.picture.empty())
    throw UsageError("say where to: -o OUT.safetensors, --picture OUT.png, or both");
  const auto ending = std::filesystem::path(command.picture).extension();
  if (!command.picture.empty() && ending != ".png" && ending != ".svg")
    throw UsageError("--picture wants a name that ends in .png or .svg");
}

void check_layer(const TraceCommand& command, const dsv32::Model& model) {
  if (command.picture.empty()) return;
  if (!model.is_sparse())
    throw dsv32::Error(
        dsv32::ErrorCode::unsupported,
        "this model is dense: every query reads every key, there is nothing to draw");
  if (command.layer >= model.config().num_hidden_layers)
    throw UsageError("--layer is 0 to " + std::to_string(model.config().num_hidden_layers - 1));
}

// Texts in common passes: the first one is what is traced, the others only run beside it.
class Texts {
 public:
  using Ids = std::vector<dsv32::TokenId>;

  Texts(const TraceCommand& command, const std::filesystem::path& dir) {
    texts_.push_back(input_ids(command, dir));
    for (const std::string& file : command.beside) {
      texts_.push_back(parse_ids(read_text(file)));
      if (texts_.back().empty()) throw UsageError("there are no tokens in " + file);
    }
    step_ = command.chunk;
    if (step_ != 0) return;
    for (const Ids& ids : texts_) step_ = std::max(step_, ids.size());
  }

  const Ids& traced() const { return texts_.front(); }

  // Room for all of them, and for a chunk of each in one pass.
  void set_sizes(dsv32::LoadOptions& load) const {
    constexpr std::size_t kPage = 64;
    load.kv_cache_tokens = 0;
    for (const Ids& ids : texts_) load.kv_cache_tokens += (ids.size() + kPage - 1) / kPage * kPage;
    load.max_sequences = static_cast<int>(texts_.size());
    const std::size_t rows = step_ * texts_.size();
    if (texts_.size() > 1 && rows > static_cast<std::size_t>(load.max_batch_tokens))
      load.max_batch_tokens = static_cast<int>(std::min<std::size_t>(rows, 1 << 16));
  }

  // Until the traced text has run; `session` is its.
  void run(dsv32::Session& session, const std::stop_token& cancel) const {
    std::vector<dsv32::Session> others;
    for (std::size_t i = 1; i < texts_.size(); ++i) others.emplace_back(session.model());
    for (std::size_t at = 0; at < traced().size(); at += step_) {
      std::vector<dsv32::SessionTokens> pass;
      for (std::size_t i = 0; i < texts_.size(); ++i) {
        if (at >= texts_[i].size()) continue;
        pass.push_back(
            {.session = i == 0 ? &session : &others[i - 1],
             .tokens = std::span(texts_[i]).subspan(at, std::min(step_, texts_[i].size() - at))});
      }
      append_together(pass, cancel);
    }
  }

 private:
  std::vector<Ids> texts_;
  std::size_t step_ = 0;  // tokens of each text at a time
};

int run_trace(TraceCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  check_picture(command);
  const auto dir = take_model(command.model);
  const Texts texts(command, dir);
  const std::vector<dsv32::TokenId>& ids = texts.traced();
  Interrupt interrupt;
  dsv32::LoadOptions load = load_options(command.model);
  texts.set_sizes(load);
  load.mtp = !command.out.empty() && has_mtp(dir);
  const dsv32::Model model = load_model(dir, load, terminal, interrupt);
  check_layer(command, model);

  dsv32::Session session(model);
  Recording recording(model, ids.size(), load.mtp, !command.out.empty());
  Progress progress(terminal, "running");
  std::size_t shared_passes = 0;
  session.observe(recording.wanted(), [&](const dsv32::Trace& trace) {
    recording.add(trace);
    shared_passes += trace.num_sequences > 1 ? 1 : 0;
    progress.update(static_cast<double>(trace.first_position + trace.num_tokens) /
                    static_cast<double>(ids.size()));
  });
  texts.run(session, interrupt.token());
  if (!command.beside.empty() && shared_passes == 0)
    throw dsv32::Error(dsv32::ErrorCode::internal, "--beside: no pass held more than one text");

  if (!command.out.empty()) write_safetensors(command.out, recording.tensors());
  if (!command.picture.empty()) write_picture(command.picture, recording.picture(command.layer));
  if (!global.json) return kOk;
  Json result = {{"tokens", ids.size()},
                 {"sparse", model.is_sparse()},
                 {"mtp", load.mtp},
                 {"kernel_set", model.kernel_set()},
                 {"stats", to_json(session.sparse_stats())}};
  if (!command.beside.empty()) result["shared_passes"] = shared_passes;
  terminal.write(one_line(result) + "\n");
  return kOk;
}

}  // namespace

void add_trace(CLI::App& root, Context& context) {
  auto command = std::make_shared<TraceCommand>();
  CLI::App* app = root.add_subcommand(
      "trace", "Logits, the keys that each layer reads, experts and MTP drafts of a text");
  add_model_name(*app, command->model);
  app->add_option("--ids", command->ids, "JSON list of token ids; - = stdin")->type_name("FILE");
  app->add_option("--prompt-file", command->prompt_file,
                  "Text instead of ids; markers in it become special tokens")
      ->type_name("FILE");
  app->add_option(
         "-o,--out", command->out,
         "safetensors: logits [n, V], topk [layers, n, k] ascending and -1 = none, experts "
         "[MoE layers, n, e], mtp_logits [n - 1, V]")
      ->type_name("FILE");
  app->add_option("--picture", command->picture,
                  "Heat map, .png or .svg: rows are queries, columns keys")
      ->type_name("FILE");
  app->add_option("--layer", command->layer, "Draw this layer only")->check(CLI::NonNegativeNumber);
  app->add_option("--beside", command->beside,
                  "JSON list of token ids of a text that runs in the same passes; may be repeated. "
                  "The results are the same, and --json tells how many passes were shared")
      ->type_name("FILE");
  app->add_option("--chunk", command->chunk,
                  "Run so many tokens of each text at a time; the results are the same")
      ->check(CLI::Range(0, 1 << 30));
  add_numerics(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_trace(*command, context.options); };
  });
}

}  // namespace cli
