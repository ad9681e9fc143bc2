#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/masking.hpp>

#include <ATen/core/DistributionsHelper.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace jepa {
namespace {

using Ids = std::vector<int64_t>;

/// Raw draws from a CPU generator's engine: the values that `torch.rand(1)` and `torch.randint`
/// give, without a tensor for each.
class Draws {
 public:
  explicit Draws(at::CPUGeneratorImpl* generator)
      : generator_(generator), lock_(generator->mutex_) {}

  /// Uniform float32 in [0, 1).
  double uniform() { return at::uniform_real_distribution<float>(0, 1)(generator_); }
  /// Uniform integer in [0, n).
  int64_t below(int64_t n) {
    return at::uniform_int_from_to_distribution<int64_t>(static_cast<uint64_t>(n), 0)(generator_);
  }

 private:
  at::CPUGeneratorImpl* generator_;
  std::lock_guard<std::mutex> lock_;
};

double within(const std::vector<double>& range, double u) {
  return range[0] + u * (range[1] - range[0]);
}

/// Rounds halves to even, as the published samplers do.
int64_t rounded(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

/// Cuts `ids` (ascending) to `length`, keeping the order.
void cut(Ids& ids, size_t length, bool random, Draws& draws) {
  if (random) {
    // Selection sampling (Knuth, 3.4.2 S): every subset is equally likely.
    size_t kept = 0;
    const size_t count = ids.size();
    for (size_t i = 0; i < count && kept < length; ++i) {
      if (draws.below(static_cast<int64_t>(count - i)) < static_cast<int64_t>(length - kept)) {
        ids[kept++] = ids[i];
      }
    }
  }
  ids.resize(length);
}

/// Cuts all sets to the shortest of them and to `limit` (0: none).
void cut_to_shortest(std::vector<Ids>& sets, size_t limit, bool random, Draws& draws) {
  size_t shortest = sets.front().size();
  for (const auto& ids : sets) shortest = std::min(shortest, ids.size());
  if (limit > 0) shortest = std::min(shortest, limit);
  for (auto& ids : sets) {
    if (ids.size() > shortest) cut(ids, shortest, random, draws);
  }
}

Ids complement(const Ids& ids, int64_t count) {
  std::vector<char> taken(static_cast<size_t>(count), 0);
  for (const int64_t id : ids) taken[static_cast<size_t>(id)] = 1;
  Ids rest;
  for (int64_t id = 0; id < count; ++id) {
    if (!taken[static_cast<size_t>(id)]) rest.push_back(id);
  }
  return rest;
}

torch::Tensor to_tensor(const std::vector<Ids>& sets) {
  const auto rows = static_cast<int64_t>(sets.size());
  const auto columns = static_cast<int64_t>(sets.front().size());
  auto tensor = torch::empty({rows, columns}, torch::kInt64);
  int64_t* out = tensor.data_ptr<int64_t>();
  for (const auto& ids : sets) out = std::copy(ids.begin(), ids.end(), out);
  return tensor;
}

Mask to_mask(const std::vector<Ids>& contexts, const std::vector<Ids>& targets) {
  if (contexts.front().empty() || targets.front().empty()) {
    throw ConfigError("mask: the blocks leave no " +
                      std::string(contexts.front().empty() ? "context" : "target"));
  }
  return {to_tensor(contexts), to_tensor(targets)};
}

/// What every sampler has: its options, and the checked-out generators.
class OptionSampler : public MaskSampler {
 public:
  explicit OptionSampler(MaskOptions options)
      : options_(std::move(options)), random_(options_.cut == "random") {}

  Mask sample(int64_t batch, const TokenGrid& grid, int64_t counter,
              at::Generator& positions) const override {
    TORCH_CHECK(batch > 0 && grid.size() > 0, "MaskSampler: a batch and a grid expected");
    const auto sizes = seeded_generator(static_cast<uint64_t>(counter));
    Draws size_draws(at::check_generator<at::CPUGeneratorImpl>(sizes));
    Draws position_draws(at::check_generator<at::CPUGeneratorImpl>(positions));
    return draw(batch, grid, size_draws, position_draws);
  }

 protected:
  virtual Mask draw(int64_t batch, const TokenGrid& grid, Draws& sizes, Draws& positions) const = 0;

  MaskOptions options_;
  bool random_;
};

/// V-JEPA's multi-block masks: the union of a few blocks is hidden, the rest is shown.
class MultiBlock3d : public OptionSampler {
 public:
  using OptionSampler::OptionSampler;

 protected:
  Mask draw(int64_t batch, const TokenGrid& grid, Draws& sizes, Draws& positions) const override {
    const TokenGrid block = block_size(grid, sizes);
    std::vector<Ids> contexts(static_cast<size_t>(batch));
    std::vector<Ids> targets(static_cast<size_t>(batch));
    for (int64_t clip = 0; clip < batch; ++clip) {
      int tries = 0;
      do {
        if (++tries > kMostTries) throw ConfigError("mask: the blocks leave no context");
        place_blocks(grid, block, positions, contexts[clip], targets[clip]);
      } while (contexts[clip].empty());
    }
    cut_to_shortest(contexts, static_cast<size_t>(options_.max_keep), random_, positions);
    cut_to_shortest(targets, 0, random_, positions);
    for (int64_t clip = 0; clip < batch; ++clip) {
      if (options_.full_complement) {
        targets[clip] = complement(contexts[clip], grid.size());
      } else if (options_.pred_full_complement) {
        contexts[clip] = complement(targets[clip], grid.size());
      }
    }
    return options_.inv_block ? to_mask(targets, contexts) : to_mask(contexts, targets);
  }

 private:
  static constexpr int kMostTries = 10000;

  TokenGrid block_size(const TokenGrid& grid, Draws& sizes) const {
    const double time = within(options_.temporal_scale, sizes.uniform());
    const double space = within(options_.spatial_scale, sizes.uniform());
    const double aspect = within(options_.aspect_ratio, sizes.uniform());
    const auto area =
        static_cast<double>(static_cast<int64_t>(static_cast<double>(grid.frame_size()) * space));
    return {std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(grid.t) * time)),
            std::clamp<int64_t>(rounded(std::sqrt(area * aspect)), 1, grid.h),
            std::clamp<int64_t>(rounded(std::sqrt(area / aspect)), 1, grid.w)};
  }

  void place_blocks(const TokenGrid& grid, const TokenGrid& block, Draws& positions, Ids& context,
                    Ids& target) const {
    std::vector<char> hidden(static_cast<size_t>(grid.size()), 0);
    for (int64_t b = 0; b < options_.blocks; ++b) {
      const int64_t top = positions.below(grid.h - block.h + 1);
      const int64_t left = positions.below(grid.w - block.w + 1);
      const int64_t start = positions.below(grid.t - block.t + 1);
      for (int64_t t = start; t < start + block.t; ++t) {
        for (int64_t row = top; row < top + block.h; ++row) {
          std::fill_n(hidden.begin() + grid.id(t, row, left), block.w, 1);
        }
      }
    }
    // What lies after the context's share of the time is hidden too.
    const auto span =
        static_cast<int64_t>(static_cast<double>(grid.t) * options_.max_temporal_keep);
    const int64_t shown = std::max<int64_t>(1, span) * grid.frame_size();
    if (shown < grid.size()) std::fill(hidden.begin() + shown, hidden.end(), 1);
    context.clear();
    target.clear();
    for (int64_t id = 0; id < grid.size(); ++id) {
      (hidden[static_cast<size_t>(id)] ? target : context).push_back(id);
    }
  }
};

/// I-JEPA's multi-block masks: several target blocks, and a context block less the targets.
class MultiBlock2d : public OptionSampler {
 public:
  using OptionSampler::OptionSampler;

 protected:
  Mask draw(int64_t batch, const TokenGrid& grid, Draws& sizes, Draws& positions) const override {
    if (grid.t != 1) throw ConfigError("mask: multiblock2d is for images (one time step)");
    const TokenGrid target_size =
        block_size(grid, options_.spatial_scale, options_.aspect_ratio, sizes.uniform());
    const TokenGrid context_size =
        block_size(grid, options_.context_scale, {1.0, 1.0}, sizes.uniform());
    const auto clips = static_cast<size_t>(batch);
    const auto blocks = static_cast<size_t>(options_.blocks);
    const size_t rows = clips * static_cast<size_t>(options_.contexts);
    std::vector<Ids> contexts(rows);
    std::vector<Ids> targets(rows * blocks);  // mask-major
    for (size_t clip = 0; clip < clips; ++clip) {
      std::vector<std::vector<char>> excluded;
      for (size_t block = 0; block < blocks; ++block) {
        const Ids ids = place(grid, target_size, positions);
        excluded.emplace_back(static_cast<size_t>(grid.size()), 0);
        for (const int64_t id : ids) excluded.back()[static_cast<size_t>(id)] = 1;
        for (size_t row = clip; row < rows; row += clips) targets[block * rows + row] = ids;
      }
      if (options_.allow_overlap) excluded.clear();
      for (size_t row = clip; row < rows; row += clips) {
        contexts[row] = place_context(grid, context_size, excluded, positions);
      }
    }
    cut_to_shortest(contexts, 0, random_, positions);
    return to_mask(contexts, targets);
  }

 private:
  static constexpr int kTries = 20;  // before one exclusion is given up, as published

  static TokenGrid block_size(const TokenGrid& grid, const std::vector<double>& scale,
                              const std::vector<double>& aspect_ratio, double u) {
    // One draw serves scale and aspect, as published.
    const auto area = static_cast<double>(
        static_cast<int64_t>(static_cast<double>(grid.frame_size()) * within(scale, u)));
    const double aspect = within(aspect_ratio, u);
    const int64_t h = std::min(rounded(std::sqrt(area * aspect)), grid.h - 1);
    const int64_t w = std::min(rounded(std::sqrt(area / aspect)), grid.w - 1);
    if (h < 1 || w < 1) throw ConfigError("mask: the grid is too small for a block");
    return {1, h, w};
  }

  static Ids place(const TokenGrid& grid, const TokenGrid& block, Draws& positions) {
    // The last position of either axis is never drawn, as published.
    const int64_t top = positions.below(grid.h - block.h);
    const int64_t left = positions.below(grid.w - block.w);
    Ids ids;
    for (int64_t row = top; row < top + block.h; ++row) {
      for (int64_t column = left; column < left + block.w; ++column) {
        ids.push_back(grid.id(0, row, column));
      }
    }
    return ids;
  }

  Ids place_context(const TokenGrid& grid, const TokenGrid& block,
                    const std::vector<std::vector<char>>& excluded, Draws& positions) const {
    for (size_t used = excluded.size() + 1; used-- > 0;) {
      for (int attempt = 0; attempt < kTries; ++attempt) {
        Ids ids = place(grid, block, positions);
        std::erase_if(ids, [&](int64_t id) {
          return std::any_of(excluded.begin(), excluded.begin() + static_cast<int64_t>(used),
                             [&](const auto& region) { return region[static_cast<size_t>(id)]; });
        });
        if (static_cast<int64_t>(ids.size()) > options_.min_keep) return ids;
      }
    }
    throw ConfigError(c10::str("mask: a context block of ", block.h, " x ", block.w,
                               " tokens never keeps more than min_keep = ", options_.min_keep));
  }
};

/// V-JEPA's random tubes: cells of the frame that are hidden at all times.
class Tube : public OptionSampler {
 public:
  using OptionSampler::OptionSampler;

 protected:
  Mask draw(int64_t batch, const TokenGrid& grid, Draws&, Draws& positions) const override {
    const int64_t cells = grid.frame_size();
    const auto shown = static_cast<size_t>(static_cast<double>(cells) * (1.0 - options_.ratio));
    std::vector<Ids> contexts(static_cast<size_t>(batch));
    std::vector<Ids> targets(static_cast<size_t>(batch));
    for (int64_t clip = 0; clip < batch; ++clip) {
      Ids kept(static_cast<size_t>(cells));
      std::iota(kept.begin(), kept.end(), 0);
      cut(kept, shown, true, positions);
      const Ids hidden = complement(kept, cells);
      for (int64_t t = 0; t < grid.t; ++t) {
        for (const int64_t cell : kept) contexts[clip].push_back(t * cells + cell);
        for (const int64_t cell : hidden) targets[clip].push_back(t * cells + cell);
      }
    }
    return to_mask(contexts, targets);
  }
};

/// The past is shown, the future is to be predicted; or the other way round.
class Causal : public OptionSampler {
 public:
  using OptionSampler::OptionSampler;

 protected:
  Mask draw(int64_t batch, const TokenGrid& grid, Draws& sizes, Draws& positions) const override {
    if (grid.t < 2) throw ConfigError("mask: causal needs at least two time steps");
    const double share = within(options_.context_share, sizes.uniform());
    const int64_t steps =
        std::clamp<int64_t>(rounded(static_cast<double>(grid.t) * share), 1, grid.t - 1);
    const int64_t shown = steps * grid.frame_size(), hidden = grid.size() - shown;
    std::vector<Ids> contexts(static_cast<size_t>(batch), Ids(static_cast<size_t>(shown)));
    std::vector<Ids> targets(static_cast<size_t>(batch), Ids(static_cast<size_t>(hidden)));
    double drawn = 0;
    for (size_t clip = 0; clip < contexts.size(); ++clip) {
      // Two views of a clip are neighbours: the second draws what the first did not.
      if (options_.backward_share > 0) drawn = clip % 2 == 0 ? positions.uniform() : 1 - drawn;
      const bool backward = drawn < options_.backward_share;
      std::iota(contexts[clip].begin(), contexts[clip].end(), backward ? hidden : 0);
      std::iota(targets[clip].begin(), targets[clip].end(), backward ? 0 : shown);
      keep_some(contexts[clip], options_.shown_keep, positions);
      keep_some(targets[clip], options_.hidden_keep, positions);
    }
    return to_mask(contexts, targets);
  }

 private:
  static void keep_some(Ids& ids, double share, Draws& draws) {
    if (share >= 1) return;
    const int64_t kept = rounded(static_cast<double>(ids.size()) * share);
    cut(ids, static_cast<size_t>(std::max<int64_t>(1, kept)), true, draws);
  }
};

void check_range(const char* name, const std::vector<double>& range) {
  if (range.size() != 2 || range[0] > range[1] || range[0] <= 0) {
    throw ConfigError(std::string("mask.") + name + ": expected two positive numbers, low,high");
  }
}

}  // namespace

void MaskOptions::describe(OptionVisitor& visit) {
  visit("kind", kind,
        {.help = "how tokens are hidden",
         .choices = {"multiblock3d", "multiblock2d", "tube", "causal"}});
  visit("blocks", blocks, {.help = "blocks to hide", .min = 1});
  visit("spatial_scale", spatial_scale,
        {.help = "share of the frame that a block covers: low,high", .min = 0, .max = 1});
  visit("temporal_scale", temporal_scale,
        {.help = "share of the time that a block covers: low,high", .min = 0, .max = 1});
  visit("aspect_ratio", aspect_ratio,
        {.help = "height over width of a block: low,high", .min = 0.01, .max = 100});
  visit("max_temporal_keep", max_temporal_keep,
        {.help = "context lies in this first share of the time", .min = 0, .max = 1});
  visit("max_keep", max_keep, {.help = "longest context; 0: no limit", .unit = "tokens", .min = 0});
  visit("full_complement", full_complement, {.help = "targets are all that the cut context lacks"});
  visit("pred_full_complement", pred_full_complement,
        {.help = "context is all that the cut targets lack"});
  visit("inv_block", inv_block, {.help = "swap context and targets"});
  visit("contexts", contexts, {.help = "images: context blocks of an image", .min = 1});
  visit("context_scale", context_scale,
        {.help = "images: share that a context block covers: low,high", .min = 0, .max = 1});
  visit("min_keep", min_keep,
        {.help = "images: a context has more tokens than this", .unit = "tokens", .min = 0});
  visit("allow_overlap", allow_overlap, {.help = "images: the context may contain targets"});
  visit("ratio", ratio, {.help = "tube: hidden share of the frame", .min = 0.01, .max = 0.99});
  visit("context_share", context_share,
        {.help = "causal: share of the time that is shown: low,high", .min = 0.01, .max = 0.99});
  visit("backward_share", backward_share,
        {.help = "causal: share of clips whose end is shown and whose start is predicted",
         .min = 0,
         .max = 1});
  visit("shown_keep", shown_keep,
        {.help = "causal: share of the shown tokens that is kept, drawn at random",
         .min = 0.01,
         .max = 1});
  visit("hidden_keep", hidden_keep,
        {.help = "causal: share of the hidden tokens that is predicted, drawn at random",
         .min = 0.01,
         .max = 1});
  visit("cut", cut,
        {.help = "to one length: a random subset (fair) or the first ids (published)",
         .choices = {"random", "prefix"}});
}

std::unique_ptr<MaskSampler> make_mask_sampler(const MaskOptions& options) {
  check_range("spatial_scale", options.spatial_scale);
  check_range("temporal_scale", options.temporal_scale);
  check_range("aspect_ratio", options.aspect_ratio);
  check_range("context_scale", options.context_scale);
  check_range("context_share", options.context_share);
  if (options.cut != "random" && options.cut != "prefix") {
    throw ConfigError("mask.cut: expected random or prefix, found '" + options.cut + "'");
  }
  if (options.kind == "multiblock3d") return std::make_unique<MultiBlock3d>(options);
  if (options.kind == "multiblock2d") return std::make_unique<MultiBlock2d>(options);
  if (options.kind == "tube") return std::make_unique<Tube>(options);
  if (options.kind == "causal") return std::make_unique<Causal>(options);
  throw ConfigError("mask.kind: expected multiblock3d, multiblock2d, tube or causal, found '" +
                    options.kind + "'");
}

}  // namespace jepa
