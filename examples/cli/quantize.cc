// `dsv32 quantize`: a checkpoint with INT8 or INT4 matrices, and what that costs in quality.
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <thread>

#include "cli/checkpoint_writer.h"
#include "cli/cli.h"
#include "cli/compact_model.h"
#include "cli/compare_models.h"
#include "cli/json_text.h"
#include "cli/output.h"

namespace cli {
namespace {

// What both models read if nothing else is given: in the manner of the bundled model's corpus.
constexpr const char* kText =
    "<｜begin▁of▁sentence｜>You are a helpful assistant.<｜User｜>Who are "
    "you?<｜Assistant｜></think>I am a "
    "small language model.<｜end▁of▁sentence｜><｜User｜>The phone number of Ida is 754-1366.\nThe "
    "meeting was short.\nThe access code of Nice is 1864.\nNode grug-42 reported a temperature of "
    "91 "
    "degrees.\nThe museum of Jopun opened in 1571.\nIt rained in the afternoon.\nProject dubij is "
    "led by Bella.\nThe box of Xenia holds 3 keys.\nRalyn works in Manila.\nThe lights were "
    "checked "
    "twice.\n\nWhat is the access code of Nice?<｜Assistant｜></think>The access code of Nice is "
    "1864.<｜end▁of▁sentence｜><｜User｜>What is 47 + 38?<｜Assistant｜><think>47 + 38: 7 + 8 = "
    "15, 4 + 3 + "
    "1 = 8.</think>85<｜end▁of▁sentence｜>";

struct QuantizeCommand {
  ModelOptions model{};
  std::string out{};
  std::string format = "int8";
  int group = 128;
  std::string eval{};
  bool no_eval = false;
  std::size_t shard_bytes = 5'000'000'000;
};

CompactFormat compact_format(const QuantizeCommand& command) {
  const CompactFormat format{.bits = command.format == "int8" ? 8 : 4, .group = command.group};
  if (format.bits == 8 && format.group != 128)
    throw UsageError("INT8 has a scale for every 128 columns; --group is for int4");
  return format;
}

void check_source(const dsv32::Checkpoint& source) {
  if (source.config().group_size > 0)
    throw UsageError("this model holds INT8 or INT4 already; convert the one that it came from");
  const std::vector<dsv32::Problem> problems = source.problems();
  if (!problems.empty()) throw dsv32::Error(problems.front().code, problems.front().message);
}

Json new_config(const std::filesystem::path& dir, const CompactFormat& format) {
  const std::optional<Json> read = parse_json(read_text((dir / "config.json").string()));
  if (!read) throw UsageError("config.json is not JSON");
  Json config = *read;
  Json quantization = {{"quant_method", format.bits == 8 ? "dsv32_int8" : "dsv32_int4"},
                       {"bits", format.bits},
                       {"group_size", format.group}};
  // What the tensors that stay as they are need to be read.
  if (config.contains("quantization_config") && config["quantization_config"].is_object())
    quantization["rest"] = config["quantization_config"];
  config["quantization_config"] = std::move(quantization);
  return config;
}

void convert(const QuantizeCommand& command, const std::filesystem::path& dir,
             const CompactModel& model, OutputFolder& folder, const Terminal& terminal,
             const Interrupt& interrupt) {
  Progress progress(terminal, "converting " + visible(dir.filename().string()));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  write_shards(folder, model.tensors,
               {.shard_bytes = command.shard_bytes,
                .threads = command.model.threads == 0 ? cores : command.model.threads,
                .on_progress = [&](double fraction) {
                  progress.update(fraction);
                  return !interrupt.pressed();
                }});
  for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer_config.json"})
    if (std::filesystem::exists(dir / name))
      folder.add_text(name, read_text((dir / name).string()));
  folder.add_text("config.json", new_config(dir, compact_format(command)).dump(2) + "\n");
  folder.keep();
}

// A text, whose markers become special tokens; or token ids as JSON: one list, or a list of lists.
std::vector<std::vector<dsv32::TokenId>> eval_texts(const QuantizeCommand& command,
                                                    const std::filesystem::path& dir) {
  const std::string text = command.eval.empty() ? kText : read_text(command.eval);
  const Json json = parse_json(text).value_or(Json());
  std::vector<std::vector<dsv32::TokenId>> texts;
  if (json.is_array() && !json.empty() && json.front().is_array()) {
    for (const Json& list : json) texts.push_back(parse_ids(list.dump()));
  } else if (json.is_array()) {
    texts.push_back(parse_ids(text));
  } else if (std::filesystem::exists(dir / "tokenizer.json")) {
    texts.push_back(dsv32::Tokenizer::load(dir / "tokenizer.json").encode(text, true));
  } else {
    throw UsageError("the model has no tokenizer: give --eval a file of token ids, or --no-eval");
  }
  std::erase_if(texts, [](const auto& ids) { return ids.empty(); });
  if (texts.empty()) throw UsageError("the text to compare on is empty");
  return texts;
}

using Texts = std::span<const std::vector<dsv32::TokenId>>;

dsv32::LoadOptions eval_options(const QuantizeCommand& command, Texts texts) {
  std::size_t longest = 0;
  for (const auto& text : texts) longest = std::max(longest, text.size());
  dsv32::LoadOptions load = load_options(command.model);
  load.kv_cache_tokens = longest;
  load.max_batch_tokens = 32;
  load.allow_paging = true;  // both models are read from the disk's cache
  return load;
}

// What comparing would end with, before the hours of converting: tokens that the model has not, too
// many of them, and all that loading refuses. The source is mapped for it and let go.
void check_eval(const QuantizeCommand& command, const std::filesystem::path& dir,
                const dsv32::ModelConfig& config, Texts texts, const Terminal& terminal,
                const Interrupt& interrupt) {
  for (const auto& text : texts) {
    for (const dsv32::TokenId id : text)
      if (id >= config.vocab_size)
        throw UsageError("--eval: token " + std::to_string(id) + " is not in 0.." +
                         std::to_string(config.vocab_size - 1));
    if (text.size() > static_cast<std::size_t>(config.max_position_embeddings))
      throw UsageError("--eval: a text of " + std::to_string(text.size()) +
                       " tokens; the model has positions for " +
                       std::to_string(config.max_position_embeddings));
  }
  dsv32::LoadOptions load = eval_options(command, texts);
  load.access = dsv32::FileAccess::mmap;
  static_cast<void>(load_model(dir, load, terminal, interrupt));
}

Json evaluate(const QuantizeCommand& command, const std::filesystem::path& dir, Texts texts,
              const Terminal& terminal, const Interrupt& interrupt) {
  const dsv32::LoadOptions load = eval_options(command, texts);
  const dsv32::Model source = load_model(dir, load, terminal, interrupt);
  const dsv32::Model result = load_model(command.out, load, terminal, interrupt);
  Progress progress(terminal, "comparing");
  const Comparison comparison = compare_models(
      source, result, texts, [&](double fraction) { progress.update(fraction); },
      interrupt.token());
  return {{"tokens", comparison.tokens},
          {"mean_kl", comparison.mean_kl},
          {"max_kl", comparison.max_kl},
          {"top1_agreement", comparison.top1}};
}

std::string as_text(const Json& report) {
  std::string text = one_line(report["converted"]) + " matrices converted; " +
                     human_bytes(report["source_bytes"].get<double>()) + " became " +
                     human_bytes(report["bytes"].get<double>()) + "\n";
  if (!report.contains("eval")) return text;
  const Json& eval = report["eval"];
  std::array<char, 160> line{};
  std::snprintf(
      line.data(), line.size(),
      "against the source on %s tokens: KL %.3g nats (worst %.3g), same best token %.1f %%\n",
      one_line(eval["tokens"]).c_str(), eval["mean_kl"].get<double>(), eval["max_kl"].get<double>(),
      100 * eval["top1_agreement"].get<double>());
  return text + line.data();
}

int run_quantize(QuantizeCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  const CompactFormat format = compact_format(command);
  const auto dir = take_model(command.model);
  const auto source = open_checkpoint(dir, command.model, terminal);
  check_source(source);
  std::vector<std::vector<dsv32::TokenId>> texts;
  if (!command.no_eval) texts = eval_texts(command, dir);  // before the long work
  Interrupt interrupt;
  OutputFolder folder(command.out);  // asks for the other signals
  if (!command.no_eval) check_eval(command, dir, source.config(), texts, terminal, interrupt);
  const CompactModel model = compact_tensors(source, format);
  convert(command, dir, model, folder, terminal, interrupt);
  Json report = {{"format", command.format},
                 {"group", format.group},
                 {"tensors", model.tensors.size()},
                 {"converted", model.converted},
                 {"source_bytes", model.source_bytes}};
  std::size_t bytes = 0;
  for (const StreamedTensor& tensor : model.tensors) bytes += tensor.bytes;
  report["bytes"] = bytes;
  if (!command.no_eval) report["eval"] = evaluate(command, dir, texts, terminal, interrupt);
  terminal.write(global.json ? one_line(report) + "\n" : as_text(report));
  return kOk;
}

}  // namespace

void add_quantize(CLI::App& root, Context& context) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* app = root.add_subcommand(
      "quantize", "Write a copy with INT8 or INT4 matrices; say what it costs in quality");
  add_model_name(*app, command->model);
  app->add_option("-o,--out", command->out, "A new or empty folder")
      ->required()
      ->type_name("FOLDER");
  app->add_option("--format", command->format,
                  "int8: a scale a row and 128 columns; int4: a scale a row and group")
      ->check(CLI::IsMember({"int8", "int4"}));
  app->add_option("--group", command->group, "Columns that share a scale, with int4")
      ->check(CLI::IsMember({64, 128}));
  app->add_option("--eval", command->eval,
                  "Compare the predictions on this text or these token ids (JSON); - = stdin")
      ->type_name("FILE")
      ->default_str("a text of its own");
  app->add_flag("--no-eval", command->no_eval, "Do not compare");
  app->add_option("--threads", command->model.threads, "CPU threads; 0 = all cores")
      ->check(CLI::Range(0, 1024));
  add_access(*app, command->model);
  app->add_option("--kernels", command->model.kernels, "Kernel set for comparing");
  app->add_option("--numerics", command->model.numerics, "Of both models while comparing")
      ->check(CLI::IsMember({"native", "exact"}));
  app->add_option("--shard-size", command->shard_bytes, "Most bytes of tensors in a file")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("SIZE");
  app->callback([command, &context] {
    context.run = [command, &context] { return run_quantize(*command, context.options); };
  });
}

}  // namespace cli
