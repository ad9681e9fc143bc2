#include <eval/dreaming/fit.hpp>
#include <jepa/errors.hpp>
#include <jepa/training/optimizer.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dreaming {

std::vector<double> fit(const std::string& name, const std::shared_ptr<torch::nn::Module>& module,
                        const FitOptions& options,
                        const std::function<std::vector<torch::Tensor>(int64_t step)>& loss_of,
                        const TrainingProgress& progress) {
  const OptimisationOptions optimisation{.total_steps = options.steps,
                                         .lr = options.lr,
                                         .final_lr = options.lr / 10,
                                         .weight_decay = 0,
                                         .final_weight_decay = 0};
  AdamW optimizer({{name, module}}, optimisation);
  std::vector<double> means;
  const int64_t counted = std::max<int64_t>(1, options.steps / 10);
  for (int64_t step = 1; step <= options.steps; ++step) {
    optimizer.zero_gradients();
    const auto scalars = loss_of(step);
    scalars.front().backward();
    optimizer.clip_gradients(name, options.clip_gradient);
    optimizer.step(rates_at(optimisation, step));
    const double loss = scalars.front().item<double>();
    if (!std::isfinite(loss)) {
      throw Error(
          c10::str(name, ": loss is not finite at step ", step, "; try a lower ", name, ".lr"));
    }
    means.resize(scalars.size());
    for (size_t i = 0; i < scalars.size() && step > options.steps - counted; ++i) {
      means[i] += scalars[i].item<double>() / static_cast<double>(counted);
    }
    if (progress) progress(step, options.steps, loss);
  }
  return means;
}

}  // namespace jepa::eval::dreaming
