// An encoder without weights for tests: latents are the patches themselves, width 3 * tubelet *
// patch^2.
#pragma once

#include <jepa/masking.hpp>
#include <jepa/model.hpp>
#include <jepa/nn/patch_embedding.hpp>

#include <torch/types.h>

#include <vector>

namespace jepa {

class PatchEncoder : public EncoderImpl {
 public:
  PatchEncoder(int64_t tubelet, int64_t patch) : tubelet_(tubelet), patch_(patch) {}

  int64_t output_width() const override { return 3 * tubelet_ * patch_ * patch_; }
  int64_t depth() const override { return 1; }
  TokenGrid grid(at::IntArrayRef s) const override {
    return {s[2] / tubelet_, s[3] / patch_, s[4] / patch_};
  }
  torch::Tensor embed(const torch::Tensor& clip) override {
    return nn::unfold_patches(clip, tubelet_, patch_);
  }
  torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid&,
                       const torch::Tensor& ids) override {
    return ids.defined() ? gather_tokens(tokens, ids) : tokens;
  }
  std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                    const std::vector<int64_t>&) override {
    return {embed(clip)};
  }
  void initialise(at::Generator) override {}
  double flops(int64_t) const override { return 0; }

 private:
  int64_t tubelet_, patch_;
};

}  // namespace jepa
