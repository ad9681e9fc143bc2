#include <eval/planning/ensemble.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa::eval::planning {
namespace {

/// Latent = mean pixel times a factor, on `width` numbers; an action's first number is added.
class Toy : public WorldModel {
 public:
  Toy(double factor, int64_t width, int64_t actions = 2)
      : factor_(factor), width_(width), actions_(actions) {}
  torch::Tensor encode(const torch::Tensor& frames) override {
    return factor_ * frames.flatten(1).mean(1, /*keepdim=*/true).expand({-1, width_});
  }
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor&,
                        const torch::Tensor& actions) override {
    const auto moved = factor_ * actions.select(2, 0).cumsum(1);
    return past.select(1, past.size(1) - 1).unsqueeze(1) + moved.unsqueeze(2);
  }
  int64_t action_width() const override { return actions_; }

 private:
  double factor_;
  int64_t width_, actions_;
};

struct Question {
  torch::Tensor frames = torch::ones({2, 1, 2, 2});
  torch::Tensor goals = torch::full({2, 1, 2, 2}, 3.0);
  torch::Tensor candidates =
      torch::arange(2 * 5 * 3 * 2).view({2, 5, 3, 2}).to(torch::kFloat32) / 20;

  torch::Tensor costs(WorldModel& model, const GoalCost& cost) const {
    return goal_costs(model, model.encode(frames).unsqueeze(1), {}, model.encode(goals),
                      cost)(candidates);
  }
};

TEST(Ensemble, CostsAreTheMembersMeanAndTheirSpread) {
  const Question question;
  Toy a(1, 3), b(0.5, 4);
  Ensemble both({{a, 3}, {b, 4}});
  for (const char* over_time : {"sum", "last"}) {
    GoalCost cost{.over_time = over_time};
    const auto first = question.costs(a, cost), second = question.costs(b, cost);
    cost.members = both.widths();
    EXPECT_TRUE(torch::allclose(question.costs(both, cost), (first + second) / 2)) << over_time;
    cost.disagreement = 2;
    const auto apart = (first - second).abs() / 2;
    if (std::string(over_time) == "last") {
      EXPECT_TRUE(torch::allclose(question.costs(both, cost), (first + second) / 2 + 2 * apart,
                                  1e-5, 1e-4));
    }
  }
}

TEST(Ensemble, OfOneModelIsThatModel) {
  const Question question;
  Toy a(1, 3);
  Ensemble one({{a, 3}});
  const auto alone = question.costs(a, {.over_time = "min"});
  EXPECT_TRUE(torch::equal(
      question.costs(one, {.over_time = "min", .members = one.widths(), .disagreement = 0}),
      alone));
}

TEST(Ensemble, GradientsStayFiniteWhereMembersAgree) {
  Question question;
  Toy a(1, 3), b(1, 3);
  Ensemble both({{a, 3}, {b, 3}});
  auto candidates = question.candidates.clone().requires_grad_();
  const auto costs =
      goal_costs(both, both.encode(question.frames).unsqueeze(1), {}, both.encode(question.goals),
                 {.members = both.widths(), .disagreement = 1})(candidates);
  costs.sum().backward();
  EXPECT_TRUE(candidates.grad().isfinite().all().item<bool>());
}

TEST(Ensemble, RefusesOtherActionsAndNoMembers) {
  Toy a(1, 3), b(1, 3, /*actions=*/4);
  EXPECT_THROW(Ensemble({}), ConfigError);
  EXPECT_THROW(Ensemble({{a, 3}, {b, 3}}), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::planning
