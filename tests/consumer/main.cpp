// Encodes a clip with a randomly initialised ViT-tiny and prints the token grid.
#include <encoders/vision_transformer.hpp>
#include <jepa/generator.hpp>
#include <jepa/version.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <iostream>

int main() {
  jepa::encoders::VisionTransformer encoder(
      jepa::encoders::resolve({.frames = 8, .height = 64, .width = 64}, "vit_tiny"));
  encoder->initialise(jepa::seeded_generator(0));
  encoder->eval();

  const torch::NoGradGuard no_grad;
  const auto clip = torch::rand({1, 3, 8, 64, 64}) * 2 - 1;  // [B, C, T, H, W]
  const auto tokens = encoder->forward(clip);                // [B, N, D]
  const auto grid = encoder->grid(clip.sizes());
  std::cout << "jepa " << jepa::version() << ": grid " << grid.t << " x " << grid.h << " x "
            << grid.w << ", tokens " << tokens.sizes() << "\n";
  return tokens.isfinite().all().item<bool>() ? 0 : 1;
}
