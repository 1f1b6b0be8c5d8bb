// `dsv32 trace`: what happened inside, as a safetensors file and as a picture.
#include <algorithm>
#include <memory>
#include <utility>

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

// What the checkpoint's files say before anything is loaded.
struct Shape {
  std::size_t tokens = 0;
  std::size_t layers = 0;
  std::size_t moe_layers = 0;
  std::size_t vocab = 0;
  std::size_t positions = 0;
  std::size_t keys = 0;  // 0: dense
  std::size_t experts_per_token = 0;
  bool mtp = false;
};

Shape shape_of(const std::filesystem::path& dir, std::size_t tokens) {
  const auto checkpoint = dsv32::Checkpoint::open(dir);
  const dsv32::ModelConfig& config = checkpoint.config();
  const auto size = [](int value) { return static_cast<std::size_t>(value); };
  Shape shape{.tokens = tokens,
              .layers = size(config.num_hidden_layers),
              .vocab = size(config.vocab_size),
              .positions = size(config.max_position_embeddings),
              .keys = std::min(size(config.index_topk), tokens),
              .experts_per_token = size(config.num_experts_per_tok)};
  shape.moe_layers = shape.layers - std::min(shape.layers, size(config.first_k_dense_replace));
  // The config may promise an MTP layer that the files lack.
  const std::string prefix = "model.layers." + std::to_string(shape.layers) + ".";
  const auto tensors = checkpoint.tensors();
  shape.mtp = config.num_nextn_predict_layers > 0 &&
              std::any_of(tensors.begin(), tensors.end(), [&](const dsv32::TensorInfo& tensor) {
                return tensor.name.starts_with(prefix);
              });
  return shape;
}

std::vector<OutTensor> tensors_of(const Shape& shape) {
  std::vector<OutTensor> result = {{"logits", "F32", {shape.tokens, shape.vocab}}};
  if (shape.keys > 0) result.push_back({"topk", "I32", {shape.layers, shape.tokens, shape.keys}});
  if (shape.moe_layers > 0)
    result.push_back({"experts", "I32", {shape.moe_layers, shape.tokens, shape.experts_per_token}});
  if (shape.mtp)  // even of one token, which has none
    result.push_back({"mtp_logits", "F32", {shape.tokens - 1, shape.vocab}});
  return result;
}

// Takes one chunk after another: to the file what belongs there, to the picture its counts. It
// holds no more of a long text than of a short one.
class Recording {
 public:
  Recording(const TraceCommand& command, const Shape& shape) : shape_(shape) {
    if (!command.out.empty())
      file_ = std::make_unique<SafetensorsFile>(command.out, tensors_of(shape));
    if (command.picture.empty()) return;
    for (std::size_t i = 0; i < shape.layers; ++i)
      if (command.layer < 0 || static_cast<std::size_t>(command.layer) == i)
        drawn_.push_back(static_cast<int>(i));
    counts_ = std::make_unique<HeatMapCounts>(shape.tokens, drawn_);
    picture_ = std::make_unique<ScratchFile>(command.picture);
    name_ = command.picture;
  }

  dsv32::TraceOptions wanted() const {
    return {.logits = file_ != nullptr,
            .selection = shape_.keys > 0,
            .experts = file_ != nullptr && shape_.moe_layers > 0,
            .mtp_logits = file_ != nullptr && shape_.mtp && shape_.tokens > 1};
  }

  void add(const dsv32::Trace& trace) {
    const auto first = static_cast<std::size_t>(trace.first_position);
    if (file_) {
      write_rows("logits", trace.logits, first, shape_.tokens);
      write_rows("mtp_logits", trace.mtp_logits, static_cast<std::size_t>(trace.mtp_first_position),
                 shape_.tokens - 1);
      add_layers("experts", trace.experts, trace, shape_.moe_layers, shape_.experts_per_token);
    }
    add_layers("topk", trace.selection, trace, shape_.layers, shape_.keys);
  }

  void keep() {
    if (file_) file_->keep();
    if (!counts_) return;
    picture_->write(0, picture_bytes(name_, counts_->map()));
    picture_->keep();
  }

  const HeatMapCounts* counts() const noexcept { return counts_.get(); }

 private:
  void write_rows(const char* name, std::span<const float> rows, std::size_t first,
                  std::size_t all) const {
    if (rows.empty() || first >= all) return;
    const std::size_t count = std::min(rows.size(), (all - first) * shape_.vocab);
    file_->write(name, first * shape_.vocab, std::as_bytes(rows.first(count)));
  }

  // [layers, count, any width] into [layers, tokens, width]; what is cut off is -1 anyway.
  void add_layers(const char* name, std::span<const std::int32_t> from, const dsv32::Trace& trace,
                  std::size_t layers, std::size_t width) {
    if (from.empty() || width == 0) return;
    const auto first = static_cast<std::size_t>(trace.first_position);
    const auto count = static_cast<std::size_t>(trace.num_tokens);
    const std::size_t stride = from.size() / (layers * count);
    std::vector<std::int32_t> rows(count * width);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      std::fill(rows.begin(), rows.end(), -1);
      for (std::size_t row = 0; row < count; ++row) {
        const auto source = from.subspan((layer * count + row) * stride, std::min(stride, width));
        std::copy(source.begin(), source.end(),
                  rows.begin() + static_cast<std::ptrdiff_t>(row * width));
      }
      if (file_)
        file_->write(name, (layer * shape_.tokens + first) * width,
                     std::as_bytes(std::span(std::as_const(rows))));
      const auto drawn = std::find(drawn_.begin(), drawn_.end(), static_cast<int>(layer));
      if (counts_ && width == shape_.keys && from.data() == trace.selection.data() &&
          drawn != drawn_.end())
        counts_->add(static_cast<std::size_t>(drawn - drawn_.begin()), first, rows, width);
    }
  }

  Shape shape_;
  std::unique_ptr<SafetensorsFile> file_;
  std::unique_ptr<HeatMapCounts> counts_;
  std::unique_ptr<ScratchFile> picture_;
  std::filesystem::path name_;
  std::vector<int> drawn_;
};

std::vector<dsv32::TokenId> input_ids(const TraceCommand& command,
                                      const std::filesystem::path& dir) {
  if (command.ids.empty() == command.prompt_file.empty())
    throw UsageError("give either --ids or --prompt-file");
  const bool given = !command.ids.empty();
  const std::string text = read_text(given ? command.ids : command.prompt_file);
  std::vector<dsv32::TokenId> ids =
      given ? parse_ids(text) : dsv32::Tokenizer::load(dir / "tokenizer.json").encode(text, true);
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

// What the run would end with, before anything is loaded.
void check_layer(const TraceCommand& command, const Shape& shape) {
  if (command.picture.empty()) return;
  if (shape.keys == 0)
    throw dsv32::Error(
        dsv32::ErrorCode::unsupported,
        "this model is dense: every query reads every key, there is nothing to draw");
  if (command.layer >= 0 && static_cast<std::size_t>(command.layer) >= shape.layers)
    throw UsageError("--layer is 0 to " + std::to_string(shape.layers - 1));
}

void check_tokens(std::span<const dsv32::TokenId> ids, const Shape& shape) {
  for (const dsv32::TokenId id : ids)
    if (static_cast<std::size_t>(id) >= shape.vocab)
      throw UsageError("token " + std::to_string(id) + " is not in 0.." +
                       std::to_string(shape.vocab - 1));
  if (ids.size() > shape.positions)
    throw dsv32::Error(dsv32::ErrorCode::context_length,
                       std::to_string(ids.size()) + " tokens are more than the " +
                           std::to_string(shape.positions) + " that the model has positions for");
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
  const std::vector<Ids>& all() const { return texts_; }

  // Room for all of them, and for a chunk of each in one pass. A pass holds the logits of its rows,
  // if they are wanted: 250 MB of 512.
  void set_sizes(dsv32::LoadOptions& load, bool logits) const {
    constexpr std::size_t kPage = 64;
    load.kv_cache_tokens = 0;
    for (const Ids& ids : texts_) load.kv_cache_tokens += (ids.size() + kPage - 1) / kPage * kPage;
    load.max_sequences = static_cast<int>(texts_.size());
    const std::size_t rows = step_ * texts_.size();
    const std::size_t most = logits ? 512 : static_cast<std::size_t>(load.max_batch_tokens);
    load.max_batch_tokens = static_cast<int>(std::min(most, std::max<std::size_t>(rows, 1)));
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

// Pixels that several tokens share are worth a word.
void tell_of_picture(const HeatMapCounts& counts, std::size_t tokens, const Terminal& terminal) {
  if (counts.tokens_a_pixel() < 2) return;
  terminal.note("dsv32: the picture has " + std::to_string(counts.pixels()) + " pixels for " +
                std::to_string(tokens) + " tokens: a pixel is up to " +
                std::to_string(counts.tokens_a_pixel()) + " x " +
                std::to_string(counts.tokens_a_pixel()) + " of them");
}

int run_trace(TraceCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  check_picture(command);
  const auto dir = take_model(command.model);
  const Texts texts(command, dir);
  const std::vector<dsv32::TokenId>& ids = texts.traced();
  const Shape shape = shape_of(dir, ids.size());
  check_layer(command, shape);
  for (const auto& text : texts.all()) check_tokens(text, shape);
  Interrupt interrupt;
  dsv32::LoadOptions load = load_options(command.model);
  texts.set_sizes(load, !command.out.empty());
  load.mtp = !command.out.empty() && shape.mtp;
  Recording recording(command, shape);  // before the long work
  const dsv32::Model model = load_model(dir, load, terminal, interrupt);

  dsv32::Session session(model);
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

  recording.keep();
  if (recording.counts() != nullptr) tell_of_picture(*recording.counts(), ids.size(), terminal);
  if (!global.json) return kOk;
  Json result = {{"tokens", ids.size()},
                 {"sparse", model.is_sparse()},
                 {"mtp", load.mtp},
                 {"kernel_set", model.kernel_set()},
                 {"stats", to_json(session.sparse_stats())}};
  if (!command.beside.empty()) result["shared_passes"] = shared_passes;
  if (recording.counts() != nullptr)
    result["tokens_a_pixel"] = recording.counts()->tokens_a_pixel();
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
