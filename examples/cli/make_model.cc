// `dsv32 make-model`: a random checkpoint of any size, for benchmarks and for sizing a machine.
#include <algorithm>
#include <memory>
#include <thread>

#include "cli/checkpoint_writer.h"
#include "cli/cli.h"
#include "cli/json_text.h"
#include "cli/output.h"
#include "cli/random_model.h"

namespace cli {
namespace {

// DeepSeek-V3.2's config.json, but for the MTP layer.
constexpr const char* kV32 = R"({
  "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32",
  "attention_bias": false, "bos_token_id": 0, "eos_token_id": 1, "first_k_dense_replace": 3,
  "hidden_act": "silu", "hidden_size": 7168, "index_head_dim": 128, "index_n_heads": 64,
  "index_topk": 2048, "intermediate_size": 18432, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "moe_intermediate_size": 2048, "moe_layer_freq": 1,
  "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
  "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
  "num_key_value_heads": 128, "num_nextn_predict_layers": 0, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "quantization_config": {"scale_fmt": "ue8m0"},
  "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"},
  "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
  "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "v_head_dim": 128,
  "vocab_size": 129280})";

struct MakeModelCommand {
  CLI::App* app = nullptr;  // to see which options were given
  std::string out{};
  std::string config{};
  std::string tokenizer{};
  std::string dtype{};
  std::string scales = "f32";
  int layers = 0, dense_layers = 0, experts = 0, groups = 0;
  int vocab = 0, max_context = 0, index_topk = 0;
  bool mtp = false;
  bool odd_scales = false;
  bool dry_run = false;
  std::uint64_t seed = 0;
  std::size_t shard_bytes = 5'000'000'000;
  int threads = 0;

  bool given(const char* option) const { return app->count(option) > 0; }
};

int number(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_number_integer())
    throw UsageError(std::string("the config has no integer ") + key);
  return found->get<int>();
}

// Groups are of one size, at least two experts each, and hold as many as a token asks for.
void set_experts(const MakeModelCommand& command, Json& config) {
  if (command.given("--experts")) config["n_routed_experts"] = command.experts;
  const int experts = number(config, "n_routed_experts");
  int groups = command.given("--groups") ? command.groups : number(config, "n_group");
  if (!command.given("--groups"))
    while (groups > 1 && (experts % groups != 0 || experts / groups < 2)) --groups;
  config["n_group"] = groups;
  const int allowed = std::min(number(config, "topk_group"), groups);
  config["topk_group"] = allowed;
  if (groups > 0)
    config["num_experts_per_tok"] =
        std::min(number(config, "num_experts_per_tok"), allowed * (experts / groups));
}

void set_quantization(const MakeModelCommand& command, Json& config) {
  const bool fp8 =
      command.dtype.empty() ? config.contains("quantization_config") : command.dtype == "fp8";
  if (!fp8 && (command.given("--scales") || command.odd_scales))
    throw UsageError("--scales and --odd-scales are for FP8 weights");
  if (command.odd_scales && command.scales == "e8m0")
    throw UsageError("E8M0 scales are powers of two: --odd-scales needs --scales f32");
  config.erase("quantization_config");
  if (!fp8) return;
  Json& quantization = config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                                        {"fmt", "e4m3"},
                                                        {"quant_method", "fp8"},
                                                        {"weight_block_size", {128, 128}}};
  if (!command.odd_scales) quantization["scale_fmt"] = "ue8m0";
}

Json make_config(const MakeModelCommand& command) {
  Json config =
      parse_json(command.config.empty() ? kV32 : read_text(command.config)).value_or(Json());
  if (!config.is_object()) throw UsageError("'" + command.config + "' is no JSON object");
  if (command.given("--layers")) config["num_hidden_layers"] = command.layers;
  if (config.contains("mlp_layer_types")) config.erase("mlp_layer_types");  // dense ones come first
  if (command.given("--dense-layers"))
    config["first_k_dense_replace"] = command.dense_layers;
  else
    config["first_k_dense_replace"] =
        std::min(config.value("first_k_dense_replace", 0), number(config, "num_hidden_layers"));
  if (command.given("--vocab")) config["vocab_size"] = command.vocab;
  if (command.given("--max-context")) config["max_position_embeddings"] = command.max_context;
  if (command.given("--index-topk"))
    config["index_topk"] = command.index_topk;
  else if (config.contains("index_topk"))
    config["index_topk"] =
        std::min(number(config, "index_topk"), number(config, "max_position_embeddings"));
  config["num_nextn_predict_layers"] = command.mtp ? 1 : 0;
  set_experts(command, config);
  set_quantization(command, config);
  return config;
}

dsv32::ModelConfig parsed(const Json& config) {
  try {
    return dsv32::ModelConfig::from_json(config.dump());
  } catch (const dsv32::Error& error) {
    throw UsageError(error.what());  // of the file and the options: what the user typed
  }
}

void copy_tokenizer(const std::string& from, const dsv32::ModelConfig& config,
                    OutputFolder& folder) {
  const std::filesystem::path source(from);
  const int size = dsv32::Tokenizer::load(source / "tokenizer.json").vocab_size();
  if (size > config.vocab_size)
    throw UsageError("the tokenizer has " + std::to_string(size) + " tokens, the model only " +
                     std::to_string(config.vocab_size));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    if (std::filesystem::exists(source / name)) folder.add_text(name, read_text(source / name));
}

struct Size {
  std::size_t tensors = 0, bytes = 0, parameters = 0;
};

Size size_of(std::span<const StreamedTensor> tensors) {
  Size size{.tensors = tensors.size()};
  for (const StreamedTensor& tensor : tensors) {
    std::size_t count = 1;
    for (const std::int64_t extent : tensor.shape) count *= static_cast<std::size_t>(extent);
    size.bytes += tensor.bytes;
    size.parameters += tensor.name.ends_with("_scale_inv") ? 0 : count;
  }
  return size;
}

void write_model(const MakeModelCommand& command, const Json& config, const RandomModel& model,
                 std::span<const StreamedTensor> tensors, const Terminal& terminal) {
  Interrupt interrupt;
  OutputFolder folder(command.out);  // asks for the other signals
  if (!command.tokenizer.empty()) copy_tokenizer(command.tokenizer, model.config, folder);
  Progress progress(terminal, "writing " + visible(command.out));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  write_shards(folder, tensors,
               {.shard_bytes = command.shard_bytes,
                .threads = command.threads == 0 ? cores : command.threads,
                .on_progress = [&](double fraction) {
                  progress.update(fraction);
                  return !interrupt.pressed();
                }});
  const Json generation = {{"_from_model_config", true},
                           {"bos_token_id", model.config.bos_token_id},
                           {"eos_token_id", model.config.eos_token_ids},
                           {"do_sample", true},
                           {"temperature", 1.0},
                           {"top_p", 0.95}};
  folder.add_text("generation_config.json", generation.dump(2) + "\n");
  folder.add_text("config.json", config.dump(2) + "\n");  // at last: a model once it is whole
  folder.keep();
}

int run_make_model(const MakeModelCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  if (command.out.empty() && !command.dry_run)
    throw UsageError("say where to: -o FOLDER, or --dry-run");
  const Json config = make_config(command);
  RandomModel model{.config = parsed(config), .seed = command.seed};
  if (command.scales == "e8m0") model.scales = Scales::e8m0;
  if (command.odd_scales) model.scales = Scales::odd;
  const std::vector<StreamedTensor> tensors = random_tensors(model);
  if (!command.dry_run) write_model(command, config, model, tensors, terminal);
  const Size size = size_of(tensors);
  if (global.json)
    terminal.write(one_line({{"tensors", size.tensors},
                             {"bytes", size.bytes},
                             {"parameters", size.parameters},
                             {"written", !command.dry_run},
                             {"config", config}}) +
                   "\n");
  else
    terminal.write(std::to_string(size.tensors) + " tensors, " + std::to_string(size.parameters) +
                   " parameters, " + human_bytes(static_cast<double>(size.bytes)) + "\n");
  return kOk;
}

void add_shape_options(CLI::App& app, MakeModelCommand& command) {
  app.add_option("--config", command.config, "A config.json instead of DeepSeek-V3.2's")
      ->type_name("FILE");
  app.add_option("--layers", command.layers, "Layers in all");
  app.add_option("--dense-layers", command.dense_layers, "The first so many have no experts");
  app.add_option("--experts", command.experts, "Routed experts a layer");
  app.add_option("--groups", command.groups,
                 "Expert groups; else as many of the config's as divide the experts");
  app.add_option("--vocab", command.vocab, "Tokens of the vocabulary");
  app.add_option("--max-context", command.max_context, "Positions (8192 or 8k)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->type_name("SIZE");
  app.add_option("--index-topk", command.index_topk, "Keys that a query reads")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->type_name("SIZE");
  app.add_flag("--mtp", command.mtp, "With the MTP layer");
}

void add_value_options(CLI::App& app, MakeModelCommand& command) {
  app.add_option("--dtype", command.dtype, "Of the matrices; else as the config says")
      ->check(CLI::IsMember({"fp8", "bf16"}));
  app.add_option("--scales", command.scales, "How FP8 scales are stored")
      ->check(CLI::IsMember({"f32", "e8m0"}));
  app.add_flag("--odd-scales", command.odd_scales, "FP8 scales that are no powers of two");
  app.add_option("--seed", command.seed, "Same seed, same bytes");
}

}  // namespace

void add_make_model(CLI::App& root, Context& context) {
  auto command = std::make_shared<MakeModelCommand>();
  CLI::App* app = root.add_subcommand(
      "make-model", "Write a random checkpoint, for benchmarks and for sizing a machine");
  command->app = app;
  app->add_option("-o,--out", command->out, "A new or empty folder")->type_name("FOLDER");
  add_shape_options(*app, *command);
  add_value_options(*app, *command);
  app->add_option("--tokenizer", command->tokenizer, "Copy the tokenizer of this folder")
      ->type_name("FOLDER");
  app->add_option("--shard-size", command->shard_bytes, "Most bytes of tensors in a file")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("SIZE");
  app->add_option("--threads", command->threads, "0 = all cores")->check(CLI::Range(0, 1024));
  app->add_flag("--dry-run", command->dry_run, "Say how large it would be; write nothing");
  app->callback([command, &context] {
    context.run = [command, &context] { return run_make_model(*command, context.options); };
  });
}

}  // namespace cli
