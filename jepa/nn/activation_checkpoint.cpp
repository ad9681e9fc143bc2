#include <jepa/device.hpp>
#include <jepa/nn/activation_checkpoint.hpp>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::nn {
namespace {

using Callable = std::function<torch::Tensor(const torch::Tensor&)>;

/// Carries the callable through the graph's saved data.
struct Holder : torch::CustomClassHolder {
  Holder(Callable f, c10::DeviceType device)
      : function(std::move(f)), autocast(AutocastState::current(device)) {}
  Callable function;
  AutocastState autocast;  ///< of the forward pass: what is computed again is computed alike
};

class CheckpointFunction : public torch::autograd::Function<CheckpointFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const c10::intrusive_ptr<Holder>& holder, at::TensorList tensors) {
    context->saved_data["function"] = c10::IValue::make_capsule(holder);
    context->save_for_backward(tensors.vec());
    return holder->function(tensors[0]);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["function"].toCapsule());
    auto inputs = context->get_saved_variables();
    inputs[0] = inputs[0].detach().requires_grad_(inputs[0].requires_grad());
    torch::autograd::variable_list wanted;
    for (const auto& input : inputs) {
      if (input.requires_grad()) wanted.push_back(input);
    }
    torch::Tensor output;
    {
      const torch::AutoGradMode with_grad(true);
      const AutocastScope autocast(holder->autocast);
      output = holder->function(inputs[0]);
    }
    const auto found = torch::autograd::grad({output}, wanted, {gradients[0]}, std::nullopt, false,
                                             /*allow_unused=*/true);
    torch::autograd::variable_list result(inputs.size() + 1);  // the holder has no gradient
    size_t next = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].requires_grad()) result[i + 1] = found[next++];
    }
    return result;
  }
};

}  // namespace

torch::Tensor activation_checkpoint(Callable function, const torch::Tensor& input,
                                    const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> tensors = {input};
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  return CheckpointFunction::apply(
      c10::make_intrusive<Holder>(std::move(function), input.device().type()),
      at::TensorList(tensors));
}

}  // namespace jepa::nn
