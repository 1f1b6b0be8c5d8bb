// Topic moe: moe_gate, moe_combine. (Dispatch is gathering rows by the lists that the backend
// makes.)

// Is a better than b? NaN is worst, so that any input gives distinct ids in range.
static bool better(float a, float b) { return a > b || (b != b && a == a); }

// Marks the `top` best of value[0, n) that are still unmarked: higher first, then the lower index.
// A taken one is marked in `taken`.
static int take_best(const float* value, const bool* taken, int n) {
  int best = -1;
  for (int i = 0; i < n; ++i) {
    if (!taken[i] && (best < 0 || better(value[i], value[best]))) best = i;
  }
  return best;
}

static float group_score(const float* choice, int n) {
  float first = choice[0], second = choice[1];
  if (better(second, first)) {
    first = choice[1];
    second = choice[0];
  }
  for (int i = 2; i < n; ++i) {
    if (better(choice[i], first)) {
      second = first;
      first = choice[i];
    } else if (better(choice[i], second)) {
      second = choice[i];
    }
  }
  return first + second;
}

constexpr int kMaxExperts = 4096;

static float sigmoid(float x) {
  float out[16];
  lanes_store(out, sigmoid_lanes(lanes_set(x)));
  return out[0];
}

static void gate_row(const MoeGateParams& p, const float* z, std::int32_t* ids, float* weights) {
  const int size = p.num_experts / p.n_group;
  float *choice = p.scratch, *group = p.scratch + p.num_experts;
  bool taken[kMaxExperts], kept[kMaxExperts];
  for (int e = 0; e < p.num_experts; ++e) {
    choice[e] = sigmoid(z[e]) + p.bias[e];
    taken[e] = true;
  }
  for (int g = 0; g < p.n_group; ++g) {
    group[g] = group_score(choice + g * size, size);
    kept[g] = false;
  }
  for (int i = 0; i < p.topk_group; ++i) {
    const int g = take_best(group, kept, p.n_group);
    kept[g] = true;
    for (int e = g * size; e < (g + 1) * size; ++e) taken[e] = false;  // others stay out of reach
  }
  float sum = 0.0f;
  for (int i = 0; i < p.top; ++i) {
    int place = i;
    const int e = take_best(choice, taken, p.num_experts);
    taken[e] = true;
    for (; place > 0 && ids[place - 1] > e; --place) ids[place] = ids[place - 1];
    ids[place] = e;
  }
  for (int i = 0; i < p.top; ++i) {
    weights[i] = sigmoid(z[ids[i]]);
    sum += weights[i];
  }
  for (int i = 0; i < p.top; ++i) {
    if (p.norm_topk_prob) weights[i] /= sum;
    weights[i] *= p.routed_scaling_factor;
  }
}

static void moe_gate(const MoeGateParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    gate_row(p, p.scores + t * p.num_experts, p.ids + t * p.top, p.weights + t * p.top);
  }
}

// 16 * kLanes columns of a token from `c` on, so that a row is looked up once for all of them. An
// element's sum is the same whatever kLanes.
template <int kLanes>
static void combine_columns(const MoeCombineParams& p, std::int64_t t, int c) {
  Lanes sums[kLanes];
  for (Lanes& sum : sums) sum = lanes_set(0.0f);
  for (std::int64_t j = t * p.top; j < (t + 1) * p.top; ++j) {
    if (p.rows[j] < 0) continue;
    const Lanes weight = lanes_set(p.weights[j]);
    const std::int64_t first = p.rows[j] * std::int64_t{p.cols} + c;
    for (int i = 0; i < kLanes; ++i) {
      const Lanes x = load_lanes(p.x, p.type, first + 16 * i, p.cols - c - 16 * i);
      sums[i] = fma(weight, x, sums[i]);
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    const int n = p.cols - c - 16 * i;
    const std::int64_t at = t * p.cols + c + 16 * i;
    if (p.shared) sums[i] = add(sums[i], load_lanes(p.shared, p.type, at, n));
    store_lanes(p.out, p.out_type, at, sums[i], n);
  }
}

static void moe_combine(const MoeCombineParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    int c = 0;
    for (; c + 64 <= p.cols; c += 64) combine_columns<4>(p, t, c);
    for (; c < p.cols; c += 16) combine_columns<1>(p, t, c);
  }
}
