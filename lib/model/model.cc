// Model::load, and what a loaded model tells about itself.
#include "dsv32/model.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>

#include "lib/backend/backend_kind.h"
#include "lib/base/check.h"
#include "lib/base/held.h"
#include "lib/base/thread_pool.h"
#include "lib/model/check_options.h"
#include "lib/model/generation_config.h"
#include "lib/model/loaded_model.h"
#include "lib/model/plan.h"
#include "lib/text/format_markers.h"
#include "lib/text/markers.h"
#include "lib/text/vocabulary.h"

namespace dsv32 {
namespace {

// Parts of loading, for who watches; told in steps of a hundredth.
constexpr double kFilesRead = 0.1, kScalesRead = 0.3, kBound = 0.5, kProgressStep = 0.01;
constexpr double kReading = 0.8;  // of all, where files are not mapped
constexpr std::size_t kTouchStep = std::size_t{64} << 20;

// Options that passed the door. The application's Executor is watched, so that a thread which runs
// its parts is known.
LoadOptions checked(LoadOptions options, FloatState& callers) {
  check_options(options);
  std::shared_ptr<Executor>& executor = options.backend.executor;
  if (!executor) return options;
  auto watched = std::make_shared<WatchedExecutor>(std::move(executor));
  watched->set_caller(&callers);
  executor = std::move(watched);
  return options;
}

// What a limit of locked memory says about a refusal.
std::string lock_advice() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  return formatted("; `ulimit -l` allows {} KiB, more needs a higher limit or CAP_IPC_LOCK",
                   limit.rlim_cur / 1024);
}

void lock(std::span<const std::byte> bytes, std::size_t all) {
  if (mlock(bytes.data(), bytes.size()) == 0) return;
  const int error = errno;
  throw Error(ErrorCode::out_of_memory,
              formatted("lock_memory: cannot lock {} of weights in memory: {}{}", human_bytes(all),
                        system_reason(error), lock_advice()));
}

// What a pool says that has fewer threads than it was asked for.
std::string missing_threads(const Workers& workers) {
  if (workers.error == 0) return {};
  return formatted(
      "{} of {} threads, the system gives no more: {}; `ulimit -u` and the cgroup's pids.max limit "
      "them",
      workers.there, workers.asked, system_reason(workers.error));
}

}  // namespace

LoadedModel::LoadedModel(const std::filesystem::path& dir, const LoadOptions& load)
    : loading_(std::in_place),
      options(checked(load, *loading_)),
      files(dir, load.access, options.backend),
      config(files.config),
      forward_options(dsv32::forward_options(config, plan_options(load))),
      owner_process(getpid()),
      turns_(std::make_unique<Turns>(
          std::static_pointer_cast<WatchedExecutor>(options.backend.executor))) {
  progress(0.0);
  for (const std::string& remark : files.remarks) log(LogLevel::warning, remark);
  check_wishes();
  warn(files.shards.unmapped());
  check_memory();
  pages_ = std::make_unique<PagePool>(static_cast<std::size_t>(forward_options.num_pages));
  tokenizer = read_tokenizer(files);
  read_defaults();
  progress(kFilesRead);
  read_files();
  load_forward();
  if (load.preload || load.lock_memory) touch_weights();
  progress(1.0);
  log(LogLevel::info,
      formatted("{}: weights {}, cache {}, activations {}; kernel set {}, threads {}",
                quote_path(dir.string()), human_bytes(weight_bytes), human_bytes(kv_cache_bytes()),
                human_bytes(activation_bytes()), kernel_set(), backend_->workers().there));
  if (turns_->executor()) turns_->executor()->set_caller(nullptr);
  loading_.reset();
}

LoadedModel::~LoadedModel() {
  // A forked child has no such threads: the end of what they wait on would wait for them.
  if (!is_own_process()) static_cast<void>(turns_.release());
}

void LoadedModel::check_wishes() const {
  DSV32_CHECK(!options.require_sparse || config.index_topk > 0, unsupported,
              "require_sparse: a {} model has no indexer", config.model_type);
}

void LoadedModel::read_defaults() {
  GenerationConfig defaults = read_generation_config(files.folder, config.vocab_size);
  sampling = std::move(defaults.sampling);
  end_tokens = config.eos_token_ids;
  for (const TokenId id : defaults.eos_token_ids) {
    if (std::find(end_tokens.begin(), end_tokens.end(), id) == end_tokens.end())
      end_tokens.push_back(id);
  }
  if (const std::string text = not_applied(defaults); !text.empty()) log(LogLevel::warning, text);
}

void LoadedModel::check_memory() {
  const Plan plan = make_plan(config, files.shards, plan_options(options));
  DSV32_CHECK(plan.fits || options.allow_paging, out_of_memory, "{}", plan.reason);
  if (!plan.fits) log(LogLevel::warning, "allow_paging: " + plan.reason);
  if (!plan.available_bytes) warn("the system does not say how much memory is available");
  weight_bytes = plan.weight_bytes;
}

// Those that are not mapped. It takes longer than all else: most of the progress.
void LoadedModel::read_files() {
  const std::size_t all = files.shards.unread();
  if (all == 0) return;
  std::size_t done = 0;
  files.shards.read_all([&](std::size_t bytes) {
    done += bytes;
    read_until_ = kReading * static_cast<double>(done) / static_cast<double>(all);
    progress(kFilesRead);
  });
}

void LoadedModel::load_forward() {
  backend_ = backend_kind(options.backend.device).open(options.backend);
  warn(missing_threads(backend_->workers()));
  ModelWeights weights = read_weights(
      config, files.shards,
      {.mtp = options.mtp, .allow_unused = options.allow_unused_tensors, .verify = options.verify},
      [&](const std::string& message) { log(LogLevel::warning, message); });
  progress(kScalesRead);
  std::size_t done = 0;
  double told = kScalesRead;
  const auto on_bytes = [&](std::size_t bytes) {
    done += bytes;
    const double part =
        std::min(1.0, static_cast<double>(done) /
                          static_cast<double>(std::max<std::size_t>(1, weight_bytes)));
    const double fraction = kScalesRead + (kBound - kScalesRead) * part;
    if (fraction - told < kProgressStep) return;
    told = fraction;
    progress(fraction);
  };
  forward_ =
      std::make_unique<Forward>(config, forward_options, *backend_, std::move(weights), on_bytes);
  progress(kBound);
}

void LoadedModel::log(LogLevel level, const std::string& message) const noexcept {
  if (!options.log) return;
  std::optional<CallersFloatState> callers;
  if (loading_) callers.emplace(*loading_);
  try {
    options.log(level, message);
  } catch (...) {  // as types.h says
  }
}

void LoadedModel::warn(const std::string& message) const noexcept {
  if (!message.empty()) log(LogLevel::warning, message);
}

void LoadedModel::in_turn(const std::stop_token& cancel, FunctionRef<void()> work) {
  check_process();
  const Turns::Turn turn = turns_->wait(cancel);
  if (broken_) throw *broken_;
  // Where a pass is replayed nobody looks between its layers.
  DSV32_CHECK(!cancel.stop_requested(), cancelled, "the pass was cancelled");
  const OwnState ours(turns_->executor());
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::device || error.code() == ErrorCode::communication)
      broken_ = error;
    throw;
  }
}

void LoadedModel::step(const Batch& batch, StepResult& result, const std::stop_token& cancel) {
  in_turn(cancel, [&] { forward_->run(batch, result, cancel); });
  say_nan(result);
}

void LoadedModel::read_pages(std::span<const PagePart> pages, std::span<std::byte> out,
                             const std::stop_token& cancel) {
  in_turn(cancel, [&] {
    for (const PagePart& part : pages) {
      const std::span<std::byte> bytes = out.first(page_bytes());
      forward_->read_page(part.page, part.tokens, bytes);
      std::copy(part.hidden.begin(), part.hidden.end(), bytes.end() - std::ssize(part.hidden));
      out = out.subspan(page_bytes());
    }
  });
}

void LoadedModel::write_pages(std::span<const std::int32_t> pages, std::span<const std::byte> in,
                              const std::stop_token& cancel) {
  in_turn(cancel, [&] {
    for (std::size_t i = 0; i < pages.size(); ++i)
      forward_->write_page(pages[i], in.subspan(i * page_bytes(), page_bytes()));
  });
}

void LoadedModel::say_nan(const StepResult& result) {
  const auto count =
      std::count_if(result.nan_queries.begin(), result.nan_queries.end(), [](int n) { return n; });
  if (count == 0 || said_nan_.exchange(true)) return;
  log(LogLevel::warning,
      formatted("the indexer met NaN at {} of {} tokens: what they attend to means nothing; "
                "Verify::all finds weights that are no numbers",
                count, result.nan_queries.size()));
}

void LoadedModel::progress(double fraction) const {
  if (!options.on_progress) return;
  if (fraction > 0.0) fraction = read_until_ + (1.0 - read_until_) * fraction;
  const CallersFloatState callers(*loading_);
  DSV32_CHECK(options.on_progress(fraction), cancelled, "loading was given up by on_progress");
}

std::optional<Tokenizer> LoadedModel::read_tokenizer(const CheckpointFiles& files) {
  if (!files.folder.has("tokenizer.json")) return {};
  Tokenizer tokenizer =
      Tokenizer::parse(read_text(files.folder, "tokenizer.json", kMaxTokenizerBytes));
  DSV32_CHECK(tokenizer.vocab_size() <= files.config.vocab_size, mismatch,
              "tokenizer.json has {} tokens, the model's vocabulary {}", tokenizer.vocab_size(),
              files.config.vocab_size);
  return tokenizer;
}

void LoadedModel::touch_weights() const {
  constexpr std::size_t kPage = 4096;
  std::size_t all = 0, done = 0;
  for (const File& file : files.shards.files) all += file.bytes().size();
  volatile std::byte sink{};  // keeps the reads
  for (const File& file : files.shards.files) {
    for (std::size_t first = 0; first < file.bytes().size(); first += kTouchStep) {
      const auto bytes =
          file.bytes().subspan(first, std::min(kTouchStep, file.bytes().size() - first));
      for (std::size_t i = 0; i < bytes.size(); i += kPage) sink = bytes[i];
      if (options.lock_memory) lock(bytes, all);
      done += bytes.size();
      progress(kBound + (1.0 - kBound) * static_cast<double>(done) / static_cast<double>(all + 1));
    }
  }
  static_cast<void>(sink);
}

void LoadedModel::check_files() const {
  for (const File& file : files.shards.files) {
    DSV32_CHECK(!file.was_written(files.folder), mismatch,
                "{} was written to after it was loaded: load the model again (FileAccess::read "
                "would have kept it)",
                quote_path(file.path().string()));
  }
}

bool LoadedModel::is_own_process() const noexcept { return getpid() == owner_process; }

void LoadedModel::check_process() const {
  DSV32_CHECK(is_own_process(), state, "this Model was loaded before fork()");
}

Model::Model(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Model Model::load(const std::filesystem::path& dir, const LoadOptions& options) {
  return Model(std::make_shared<Impl>(dir, options));
}

namespace {

// For whoever may throw: not moved from, and not in a forked child.
template <class Impl>
const LoadedModel& usable(const std::shared_ptr<Impl>& impl) {
  held(impl).check_process();
  return *impl;
}

}  // namespace

const ModelConfig& Model::config() const& { return usable(impl_).config; }

Tokenizer Model::tokenizer() const {
  DSV32_CHECK(usable(impl_).tokenizer, not_found, "the model's folder has no tokenizer.json");
  return *impl_->tokenizer;
}

ChatTemplate Model::chat_template() const {
  const LoadedModel& model = usable(impl_);
  std::optional<ChatFormat> format = model.options.chat_format;
  if (!format) {
    DSV32_CHECK(model.config.model_type == "deepseek_v32", unsupported,
                "the chat format of a {} model must be named in LoadOptions::chat_format",
                model.config.model_type);
    format = tokenizer().find(markers::kDsml) ? ChatFormat::v32 : ChatFormat::v31;
  }
  if (model.tokenizer) check_markers(*model.tokenizer, *format);
  return ChatTemplate(*format);
}

SamplingParams Model::default_sampling() const { return usable(impl_).sampling; }

std::span<const TokenId> Model::end_tokens() const& { return usable(impl_).end_tokens; }

MemoryUsage Model::memory_usage() const noexcept {
  if (!impl_) return {};
  return {.weight_bytes = impl_->weight_bytes,
          .kv_cache_bytes = impl_->kv_cache_bytes(),
          .activation_bytes = impl_->activation_bytes()};
}

std::size_t Model::free_cache_tokens() const noexcept {
  if (!impl_ || !impl_->is_own_process()) return 0;
  return impl_->pages().free_pages() * kernels::kPageSize;
}

bool Model::is_sparse() const noexcept { return impl_ && impl_->config.index_topk > 0; }

std::string_view Model::kernel_set() const noexcept {
  return impl_ ? impl_->kernel_set() : std::string_view();
}

}  // namespace dsv32
