#include <eval/watching/inspect.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_stream.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/attention_look.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::watching {
namespace {

/// Hands on all context tokens but those of a quadrant.
class BlindPredictor : public PredictorImpl {
 public:
  BlindPredictor(const Predictor& inner, int64_t quadrant) : quadrant_(quadrant) {
    inner_ = register_module("inner", inner);
  }

  /// Numbers of the context tokens that it hands on; windows are masked alike.
  torch::Tensor kept(const Mask& mask, const TokenGrid& grid) const {
    const auto ids = mask.context[0].cpu();
    std::vector<int64_t> seen;
    for (int64_t i = 0; i < ids.size(0); ++i) {
      const int64_t place = ids[i].item<int64_t>() % grid.frame_size();
      if (quadrant_of(place / grid.w, place % grid.w, grid) != quadrant_) seen.push_back(i);
    }
    return torch::tensor(seen);
  }

  Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid& grid,
                     int64_t mask_index) override {
    const auto rows = kept(mask, grid).to(context.device());
    return inner_->forward(context.index_select(1, rows),
                           {mask.context.index_select(1, rows), mask.target}, grid, mask_index);
  }
  void initialise(at::Generator generator) override { inner_->initialise(generator); }
  double flops(int64_t context_tokens, int64_t target_tokens) const override {
    return inner_->flops(context_tokens, target_tokens);
  }

 private:
  Predictor inner_{nullptr};
  int64_t quadrant_;
};

/// Means over the places of each quadrant of a map [h, w].
std::array<double, 4> by_quadrant(const torch::Tensor& map, const TokenGrid& grid) {
  std::array<double, 4> sums{}, counts{};
  for (int64_t row = 0; row < grid.h; ++row) {
    for (int64_t column = 0; column < grid.w; ++column) {
      const auto quadrant = static_cast<size_t>(quadrant_of(row, column, grid));
      sums[quadrant] += map[row][column].item<double>();
      counts[quadrant] += 1;
    }
  }
  for (size_t i = 0; i < 4; ++i) sums[i] /= std::max(counts[i], 1.0);
  return sums;
}

/// A window's past is known, the rest foretold.
Mask causal_mask(const TokenGrid& grid, int64_t past_steps) {
  const auto ids = torch::arange(grid.size()).unsqueeze(0);
  const int64_t from = past_steps * grid.frame_size();
  return {ids.slice(1, 0, from).contiguous(), ids.slice(1, from).contiguous()};
}

/// The predictor's attention from target tokens to the context of one window, the mean over heads:
/// float [layers, targets, context tokens]; 0 for context tokens that it is not given.
torch::Tensor predictor_attention(physics::MaskedModel model, const torch::Tensor& context,
                                  const Mask& mask, const TokenGrid& grid) {
  std::vector<torch::Tensor> layers;
  {
    nn::AttentionLook look;
    model.predictor->forward(context, mask, grid, model.mask_index);
    layers = look.layers;
  }
  if (layers.empty()) throw ConfigError("inspect: the predictor has no attention");
  const int64_t targets = mask.target.size(1), all = mask.context.size(1);
  auto rows = torch::arange(all);
  const auto* blind = dynamic_cast<const BlindPredictor*>(model.predictor.get());
  if (blind != nullptr) rows = blind->kept(mask, grid);
  auto made = torch::zeros({static_cast<int64_t>(layers.size()), targets, all});
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t given = layers[i].size(1) - targets;
    TORCH_CHECK(given == rows.size(0), "inspect: ", given, " context tokens, expected ",
                rows.size(0));
    made[static_cast<int64_t>(i)].index_copy_(
        1, rows, layers[i][0].slice(0, given).slice(1, 0, given).to(torch::kFloat32));
  }
  return made;
}

/// Normalised so that context tokens get 1 together: what goes to other targets is left out.
torch::Tensor shares_of_context(const torch::Tensor& attention) {
  return attention / attention.sum(-1, true).clamp_min(1e-12);
}

}  // namespace

void InspectOptions::describe(OptionVisitor& visit) {
  visit("inspect", inspect,
        {.help = "look into the model: surprise by token, attention, what the encoder says"});
  visit("at", at,
        {.help = "of the film, where the window that is shown begins", .unit = "s", .min = 0});
  visit("row", row,
        {.help = "of the target token that is followed; -1: the most surprising", .min = -1});
  visit("column", column, {.help = "of that token", .min = -1});
  visit("fault", fault,
        {.help = "plant one: the predictor is not given this quadrant's context tokens",
         .choices = {"none", "top_left", "top_right", "bottom_left", "bottom_right"}});
  visit("windows", windows, {.help = "over which means by place are taken", .min = 1});
}

const std::array<std::string, 4>& quadrant_names() {
  static const std::array<std::string, 4> names{"top_left", "top_right", "bottom_left",
                                                "bottom_right"};
  return names;
}

int64_t quadrant_of(int64_t row, int64_t column, const TokenGrid& grid) {
  return 2 * static_cast<int64_t>(2 * row >= grid.h) + static_cast<int64_t>(2 * column >= grid.w);
}

Predictor ignore_quadrant(const Predictor& predictor, const std::string& quadrant) {
  const auto& names = quadrant_names();
  const auto found = std::find(names.begin(), names.end(), quadrant);
  if (found == names.end()) throw ConfigError("option fault: no quadrant '" + quadrant + "'");
  return Predictor(std::shared_ptr<PredictorImpl>(
      std::make_shared<BlindPredictor>(predictor, found - names.begin())));
}

Inspection inspect(const physics::MaskedModel& given, int64_t window, int64_t past,
                   const torch::Tensor& film, const InspectOptions& options) {
  const torch::NoGradGuard no_grad;
  physics::MaskedModel model = given;
  if (options.fault != "none") model.predictor = ignore_quadrant(given.predictor, options.fault);
  const auto asked = physics::masked_surprise(model, window, torch::kCPU);
  // Windows that share no frame, as many as there are; the first is shown.
  const auto all = physics::surprise_of(asked, film.unsqueeze(0), {.past = past, .stride = window});
  Inspection seen;
  seen.past_steps = past / model.tubelet;
  seen.window = film.slice(1, 0, window).contiguous();
  seen.surprise = all.tokens[0][0];
  seen.places = all.tokens[0].mean(at::IntArrayRef{0, 1});
  const auto clip = model.pixels.normalise(seen.window.unsqueeze(0), torch::kCPU);
  seen.grid = model.encoder->grid(clip.sizes());
  seen.quadrants = by_quadrant(seen.places, seen.grid);

  const auto mask = causal_mask(seen.grid, seen.past_steps);
  std::vector<torch::Tensor> contexts;
  torch::Tensor attention, shares;
  const int64_t windows = std::min<int64_t>(all.windows.size(1), options.windows);
  for (int64_t i = 0; i < windows; ++i) {
    const auto shown = model.pixels.normalise(
        film.slice(1, i * window, i * window + past).unsqueeze(0).contiguous(), torch::kCPU);
    contexts.push_back(model.encoder->encode(model.encoder->embed(shown), seen.grid, mask.context));
    if (i >= 8) continue;  // attention hardly differs from window to window
    const auto weights =
        shares_of_context(predictor_attention(model, contexts.back(), mask, seen.grid));
    if (i == 0) attention = weights;
    const auto mean = weights.mean(at::IntArrayRef{0, 1});
    shares = shares.defined() ? shares + mean : mean;
  }
  shares = shares / shares.sum();
  const auto context_map = [&](const torch::Tensor& tokens) {
    return tokens.view({seen.past_steps, seen.grid.h, seen.grid.w});
  };
  seen.attended = by_quadrant(context_map(shares).sum(0), seen.grid);
  double total = 0;
  for (const double share : seen.attended) total += share;
  for (double& share : seen.attended) share /= std::max(total, 1e-12);
  const auto stacked = torch::cat(contexts);  // [windows, context tokens, D]
  seen.variance = by_quadrant(context_map(stacked.var(0, false).mean(1)).mean(0), seen.grid);

  const int64_t best = seen.surprise.argmax().item<int64_t>();
  const int64_t place = best % seen.grid.frame_size();
  if ((options.row >= 0) != (options.column >= 0)) {
    throw ConfigError("option row, column: a token has both");
  }
  const bool chosen = options.row >= 0;
  if (chosen && (options.row >= seen.grid.h || options.column >= seen.grid.w)) {
    throw ConfigError(
        c10::str("option row, column: a frame has ", seen.grid.h, " x ", seen.grid.w, " tokens"));
  }
  seen.target = {chosen ? 0 : best / seen.grid.frame_size(),
                 chosen ? options.row : place / seen.grid.w,
                 chosen ? options.column : place % seen.grid.w};
  const int64_t token =
      seen.target[0] * seen.grid.frame_size() + seen.target[1] * seen.grid.w + seen.target[2];
  seen.attention = attention.select(1, token).reshape(
      {attention.size(0), seen.past_steps, seen.grid.h, seen.grid.w});
  auto whole = model.target_encoder.is_empty() ? model.encoder : model.target_encoder;
  seen.tokens = whole->forward(clip);
  return seen;
}

torch::Tensor read_watched(const std::string& video, double from_seconds, int64_t count,
                           const WatchedModel& model, int64_t short_side) {
  const std::string path = find_videos(video).front().path;
  VideoStream stream(path, {.scale = {.short_side = scaled_side(model, short_side)}});
  const double fps = stream.fps() > 0 ? stream.fps() : 25;
  const int64_t step =
      model.fps > 0 ? std::max<int64_t>(1, std::llround(fps / model.fps)) : model.frame_step;
  std::vector<torch::Tensor> frames;
  for (int64_t number = 0; static_cast<int64_t>(frames.size()) < count; ++number) {
    const auto frame = stream.next();
    if (!frame) break;
    if (frame->seconds < from_seconds || number % step != 0) continue;
    frames.push_back(central_picture(frame->picture, frame->height, frame->width, model));
  }
  if (frames.empty())
    throw DataError(path + ": ends before " + std::to_string(from_seconds) + " s");
  return torch::stack(frames, 1).contiguous();
}

}  // namespace jepa::eval::watching
