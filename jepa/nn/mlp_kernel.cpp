#include <jepa/nn/mlp_kernel.hpp>
#include <jepa/nn/simd.hpp>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::nn {
namespace {

constexpr int64_t kRows = 16;  // rows a thread takes at least

/// Gaussian distribution function of x, and its density.
JEPA_INLINE void gaussian(const simd::Floats& x, simd::Floats& below, simd::Floats& density) {
  // erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7), whose exponential is the density's.
  const simd::Floats size = (x > 0.0f ? x : -x) * 0.70710678f;
  const simd::Floats t = 1.0f / (1.0f + 0.3275911f * size);
  const simd::Floats e = simd::exp(-size * size);
  const simd::Floats tail =
      ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t +
       0.254829592f) *
      t * e * 0.5f;
  below = x > 0.0f ? 1.0f - tail : tail;
  density = e * 0.39894228f;
}

/// The first `count` floats of a vector at `p`, the rest 0.
JEPA_INLINE simd::Floats load_some(const float* p, int64_t count) {
  if (count >= simd::kLanes) return simd::load(p);
  float lanes[simd::kLanes] = {};
  std::copy(p, p + count, lanes);
  return simd::load(lanes);
}

JEPA_INLINE void store_some(float* p, simd::Floats v, int64_t count) {
  if (count >= simd::kLanes) return simd::store(p, v);
  float lanes[simd::kLanes];
  simd::store(lanes, v);
  std::copy(lanes, lanes + count, p);
}

/// h += bias; activation = gelu(h). The two may be one buffer: then only the activation stays.
void add_bias_and_activate(torch::Tensor& h, const torch::Tensor& bias, torch::Tensor& activation) {
  const int64_t width = h.size(1);
  float* h_data = h.data_ptr<float>();
  float* out_data = activation.data_ptr<float>();
  const float* bias_data = bias.data_ptr<float>();
  at::parallel_for(0, h.size(0), kRows, [&](int64_t begin, int64_t end) {
    simd::widest([&]() __attribute__((always_inline)) {
      for (int64_t row = begin; row < end; ++row) {
        float* x = h_data + row * width;
        float* y = out_data + row * width;
        for (int64_t i = 0; i < width; i += simd::kLanes) {
          const int64_t count = width - i;
          const simd::Floats v = load_some(x + i, count) + load_some(bias_data + i, count);
          simd::Floats below, density;
          gaussian(v, below, density);
          store_some(x + i, v, count);
          store_some(y + i, v * below, count);
        }
      }
    });
  });
}

/// activation = gelu(h); gradient *= gelu'(h).
void activate_and_differentiate(const torch::Tensor& h, torch::Tensor& activation,
                                torch::Tensor& gradient) {
  const int64_t count = h.numel();
  const float* h_data = h.data_ptr<float>();
  float* out_data = activation.data_ptr<float>();
  float* gradient_data = gradient.data_ptr<float>();
  at::parallel_for(0, count, kRows * 1024, [&](int64_t begin, int64_t end) {
    simd::widest([&]() __attribute__((always_inline)) {
      for (int64_t i = begin; i < end; i += simd::kLanes) {
        const int64_t some = end - i;
        const simd::Floats x = load_some(h_data + i, some);
        simd::Floats below, density;
        gaussian(x, below, density);
        store_some(out_data + i, x * below, some);
        store_some(gradient_data + i, load_some(gradient_data + i, some) * (below + x * density),
                   some);
      }
    });
  });
}

class MlpFunction : public torch::autograd::Function<MlpFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& residual, const torch::Tensor& x,
                               const torch::Tensor& w1, const torch::Tensor& b1,
                               const torch::Tensor& w2, const torch::Tensor& b2, bool remember) {
    const auto rows = x.reshape({-1, x.size(-1)});
    auto h = at::mm(rows, w1.t());
    auto activation = remember ? torch::empty_like(h) : h;
    add_bias_and_activate(h, b1, activation);
    if (remember) context->save_for_backward({rows, h, w1, w2});
    return at::add(residual.reshape({-1, w2.size(0)}), b2)
        .addmm_(activation, w2.t())
        .view(residual.sizes());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &h = saved[1], &w1 = saved[2], &w2 = saved[3];
    const auto grad = gradients[0].reshape({-1, w2.size(0)});
    auto grad_h = at::mm(grad, w2);
    auto activation = torch::empty_like(h);
    activate_and_differentiate(h, activation, grad_h);
    const auto wanted = [&](size_t i) { return context->needs_input_grad(i); };
    torch::autograd::variable_list result(7);
    result[0] = gradients[0];
    if (wanted(1)) result[1] = at::mm(grad_h, w1).view(gradients[0].sizes());
    if (wanted(2)) result[2] = at::mm(grad_h.t(), x);
    if (wanted(3)) result[3] = grad_h.sum(0);
    if (wanted(4)) result[4] = at::mm(grad.t(), activation);
    if (wanted(5)) result[5] = grad.sum(0);
    return result;
  }
};

}  // namespace

bool mlp_kernel_fits(const torch::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == torch::kFloat32 &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

torch::Tensor mlp_kernel(const torch::Tensor& residual, const torch::Tensor& x,
                         const torch::Tensor& w1, const torch::Tensor& b1, const torch::Tensor& w2,
                         const torch::Tensor& b2) {
  TORCH_CHECK(residual.sizes() == x.sizes(), "mlp_kernel: residual ", residual.sizes(), " and x ",
              x.sizes(), " differ");
  return MlpFunction::apply(residual, x, w1, b1, w2, b2, torch::GradMode::is_enabled());
}

}  // namespace jepa::nn
