#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

namespace jepa {

TensorMap state_dict(const torch::nn::Module& module) {
  TensorMap tensors;
  for (const auto& item : module.named_parameters()) tensors[item.key()] = item.value().detach();
  for (const auto& item : module.named_buffers()) tensors[item.key()] = item.value();
  return tensors;
}

void load_into(torch::nn::Module& module, const TensorMap& weights, const std::string& source,
               Fill fill) {
  const torch::NoGradGuard no_grad;
  size_t used = 0;
  const auto load = [&](const std::string& key, torch::Tensor& target) {
    const auto found = weights.find(key);
    if (found == weights.end()) throw CheckpointError(source + ": '" + key + "' is missing");
    const torch::Tensor& value = found->second;
    if (value.sizes() != target.sizes()) {
      throw CheckpointError(c10::str(source, ": '", key, "' has shape ", value.sizes(),
                                     ", the model has ", target.sizes()));
    }
    if (!value.is_floating_point() && target.is_floating_point()) {
      throw CheckpointError(c10::str(source, ": '", key, "' has type ", value.scalar_type(),
                                     ", weights are floating-point"));
    }
    const bool alike = value.options().type_equal(target.options()) && value.is_contiguous();
    if (fill == Fill::adopt && alike) {
      target.set_data(value);
    } else {
      target.copy_(value);
    }
    ++used;
  };
  auto parameters = module.named_parameters();
  auto buffers = module.named_buffers();
  for (auto& item : parameters) load(item.key(), item.value());
  for (auto& item : buffers) load(item.key(), item.value());
  if (used == weights.size()) return;
  for (const auto& [key, value] : weights) {
    if (!parameters.contains(key) && !buffers.contains(key)) {
      throw CheckpointError(
          c10::str(source, ": '", key, "' of shape ", value.sizes(), " belongs to another model"));
    }
  }
}

}  // namespace jepa
