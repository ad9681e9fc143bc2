// How the one-step error weighs the frames of a clip.
#include <eval/dynamics/latent_predictor.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dynamics {
namespace {

// Predicts 0 everywhere, so that an error is its target's square; notes what it was shown.
class Nothing : public LatentPredictor {
 public:
  explicit Nothing(int64_t history) : history_(history) {}
  int64_t history() const override { return history_; }
  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor&) override {
    narrowest = std::min(narrowest, latents.size(1));
    widest = std::max(widest, latents.size(1));
    return torch::zeros_like(latents);
  }
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor&) override { return past; }
  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() const override { return {}; }
  void initialise(uint64_t, const std::string&) override {}

  int64_t narrowest = 1000, widest = 0;

 private:
  int64_t history_;
};

torch::Tensor error_of(LatentPredictor& predictor, const torch::Tensor& later) {
  return teacher_forced_error(predictor, torch::zeros_like(later), later,
                              torch::zeros({later.size(0), later.size(1), 2}));
}

TEST(TeacherForcedError, OverlappingWindowsCountEachFrameOnce) {
  Nothing predictor(3);
  // Windows of frames 1 to 3 and 3 to 5: (1 + 4 + 9 + 16 + 25) / 5, not with the 9 twice over 6.
  const auto later = torch::tensor({1.0, 2.0, 3.0, 4.0, 5.0}).view({1, 5, 1});
  EXPECT_NEAR(error_of(predictor, later).item<double>(), 11, 1e-5);
}

TEST(TeacherForcedError, AllFramesWeighTheSameWhateverTheWindows) {
  for (const int64_t history : {1, 2, 3, 4}) {
    for (int64_t frames = 1; frames <= 9; ++frames) {
      SCOPED_TRACE(std::to_string(history) + " of " + std::to_string(frames));
      Nothing predictor(history);
      const auto later = torch::randn({2, frames, 3}, seeded_generator(1)).set_requires_grad(true);
      const auto error = error_of(predictor, later);
      EXPECT_NEAR(error.item<double>(), later.square().mean().item<double>(), 1e-5);
      error.backward();
      const auto expected = 2 * later.detach() / static_cast<double>(later.numel());
      EXPECT_TRUE(torch::allclose(later.grad(), expected, 1e-5, 1e-6));
      // No window is cut short.
      EXPECT_EQ(predictor.narrowest, predictor.widest);
      EXPECT_EQ(predictor.widest, history == 1 ? frames : std::min(history, frames));
    }
  }
}

// LeWorldModel's clips: the plain mean, and windows that divide a clip, the mean of theirs, bit for
// bit.
TEST(TeacherForcedError, WindowsThatDivideAClipAreTheirMean) {
  PredictorShape shape{.kind = "adaln"};
  const auto predictor = make_latent_predictor(shape, 16, 4);
  predictor->initialise(3);
  const auto z = torch::randn({4, 7, 16}, seeded_generator(1));
  const auto actions = torch::randn({4, 6, 4}, seeded_generator(2));
  const auto window = [&](int64_t start) {
    const auto next = predictor->predict(z.narrow(1, start, 3), actions.narrow(1, start, 3));
    return (next - z.narrow(1, start + 1, 3)).square().mean();
  };
  const auto error = [&](int64_t frames) {
    return teacher_forced_error(*predictor, z, z.narrow(1, 1, frames),
                                actions.narrow(1, 0, frames));
  };
  EXPECT_TRUE(torch::equal(error(3), window(0)));
  EXPECT_TRUE(torch::equal(error(6), torch::stack({window(0), window(3)}).mean()));
}

}  // namespace
}  // namespace jepa::eval::dynamics
