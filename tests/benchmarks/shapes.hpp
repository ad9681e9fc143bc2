// The shapes that are measured everywhere: the reference, in both generations of positions, and the
// demo's.
#pragma once

#include <encoders/registry.hpp>
#include <jepa/masking.hpp>
#include <predictors/registry.hpp>

#include <memory>
#include <vector>

namespace jepa::benchmarks {

struct Shape {
  const char* name;
  int64_t batch;
  encoders::EncoderOptions encoder;
  predictors::PredictorOptions predictor;
};

/// ViT-tiny, 16 frames of 112 x 112, patch 16, tubelet 2, predictor 6 x 96 with 3 heads.
inline Shape reference_shape() {
  Shape shape{.name = "vit_tiny_16x112_b8", .batch = 8, .encoder = {}, .predictor = {}};
  shape.encoder.preset = "vit_tiny";
  shape.encoder.vit.height = 112;
  shape.encoder.vit.width = 112;
  shape.encoder.vit = encoders::resolve(shape.encoder.vit, shape.encoder.preset);
  shape.predictor.masked.dim = 96;
  shape.predictor.masked.depth = 6;
  shape.predictor.masked.heads = 3;
  return shape;
}

/// The same with the sin-cos positions of the first V-JEPA.
inline Shape sincos_shape() {
  Shape shape = reference_shape();
  shape.name = "vit_tiny_sincos_16x112_b8";
  shape.encoder.vit.positions = "sincos";
  shape.predictor.masked.positions = "sincos";
  return shape;
}

/// One clip of the reference: latency.
inline Shape single_shape() {
  Shape shape = reference_shape();
  shape.name = "vit_tiny_16x112_b1";
  shape.batch = 1;
  return shape;
}

/// What `./dev demo` trains on digits: encoder 4 x 96, predictor 4 x 64, 64 tokens, batch 64.
inline Shape demo_shape() {
  Shape shape{.name = "demo", .batch = 64, .encoder = {}, .predictor = {}};
  shape.encoder.preset = "custom";
  auto& vit = shape.encoder.vit;
  vit.dim = 96;
  vit.depth = 4;
  vit.heads = 3;
  vit.channels = 1;
  vit.frames = 8;
  vit.height = 32;
  vit.width = 32;
  vit.patch = 8;
  vit.positions = "sincos";
  vit = encoders::resolve(vit, "custom");
  shape.predictor.masked.dim = 64;
  shape.predictor.masked.depth = 4;
  shape.predictor.masked.heads = 2;
  shape.predictor.masked.positions = "sincos";
  return shape;
}

/// V-JEPA's short-range and long-range masks.
inline std::vector<std::unique_ptr<MaskSampler>> mask_samplers() {
  MaskOptions short_range;
  MaskOptions long_range;
  long_range.blocks = 2;
  long_range.spatial_scale = {0.7, 0.7};
  std::vector<std::unique_ptr<MaskSampler>> samplers;
  samplers.push_back(make_mask_sampler(short_range));
  samplers.push_back(make_mask_sampler(long_range));
  return samplers;
}

}  // namespace jepa::benchmarks
