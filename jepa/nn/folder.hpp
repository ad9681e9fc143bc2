// Names inside a state dict that no layer stands for.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>

namespace jepa::nn {

/// A module that only gives its children a prefix, as published models' containers do.
class FolderImpl : public torch::nn::Module {};

/// A new folder `name` of `parent`.
inline std::shared_ptr<FolderImpl> folder(torch::nn::Module& parent, const std::string& name) {
  return parent.register_module(name, std::make_shared<FolderImpl>());
}

}  // namespace jepa::nn
