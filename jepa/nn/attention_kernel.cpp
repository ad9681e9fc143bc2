#include <jepa/nn/attention_kernel.hpp>
#include <jepa/nn/simd.hpp>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "at::parallel_for is OpenMP's here: without it every loop of ours runs on one thread"
#endif

// The BLAS that LibTorch carries. Weak: a LibTorch that hides it leaves attention to its own
// kernels.
extern "C" __attribute__((weak)) void sgemm_(const char*, const char*, const int*, const int*,
                                             const int*, const float*, const float*, const int*,
                                             const float*, const int*, const float*, float*,
                                             const int*);
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int);

namespace jepa::nn {
namespace {

constexpr int64_t kLongest = 1024;      // tokens
constexpr int64_t kScores = 32 * 1024;  // scores computed at a time: 128 KiB
constexpr float kNoScore = -std::numeric_limits<float>::infinity();

/// A row-major matrix inside a larger one.
struct Matrix {
  float* data;
  int64_t stride;
  Matrix rows_from(int64_t row) const { return {data + row * stride, stride}; }
};

/// c = alpha op(a) op(b) + beta c, row-major; c is [m, n], k is summed over.
void multiply(char a_op, char b_op, int64_t m, int64_t n, int64_t k, float alpha, Matrix a,
              Matrix b, float beta, Matrix c) {
  const int rows = static_cast<int>(m), columns = static_cast<int>(n), inner = static_cast<int>(k);
  const int lda = static_cast<int>(a.stride), ldb = static_cast<int>(b.stride);
  const int ldc = static_cast<int>(c.stride);
  // BLAS is column-major: c^T = op(b)^T op(a)^T.
  sgemm_(&b_op, &a_op, &columns, &rows, &inner, &alpha, b.data, &ldb, a.data, &lda, &beta, c.data,
         &ldc);
}

/// While it lives, products that this thread asks for stay on it. MKL would find that out by
/// itself, by way of a team of one for each of them.
class SerialBlas {
 public:
  SerialBlas() {
    if (MKL_Set_Num_Threads_Local != nullptr) before_ = MKL_Set_Num_Threads_Local(1);
  }
  ~SerialBlas() {
    if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(before_);
  }
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;

 private:
  int before_ = 0;
};

/// Working memory of one thread, kept between calls.
float* scratch(int64_t floats) {
  thread_local std::vector<float> memory;
  const auto wanted = static_cast<size_t>(floats + simd::kLanes);
  if (memory.size() < wanted) memory.resize(wanted);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return reinterpret_cast<float*>((address + 63) & ~uintptr_t{63});
}

int64_t padded(int64_t n) { return (n + simd::kLanes - 1) / simd::kLanes * simd::kLanes; }

/// Sizes and base pointers of one call.
struct Call {
  int64_t batch, tokens, heads, width;
  int64_t rotated = 0;     ///< rotated elements of a head
  int64_t table_step = 0;  ///< floats from one sample's table to the next; 0: one table for all
  const float* cos = nullptr;
  const float* sin = nullptr;

  Call(const torch::Tensor& qkv, const torch::Tensor& cos_table, const torch::Tensor& sin_table)
      : batch(qkv.size(0)), tokens(qkv.size(1)), heads(qkv.size(3)), width(qkv.size(4)) {
    if (!cos_table.defined()) return;
    rotated = cos_table.size(-1);
    table_step = cos_table.dim() == 3 ? tokens * rotated : 0;
    cos = cos_table.data_ptr<float>();
    sin = sin_table.data_ptr<float>();
  }

  float scale() const { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))); }
  int64_t row_stride() const { return padded(tokens); }
  int64_t block_rows() const {
    return std::min(tokens, std::max<int64_t>(16, kScores / row_stride() / 8 * 8));
  }
  /// Part 0, 1, 2 (query, key, value) of a head in a tensor laid out as qkv.
  Matrix part(float* base, int64_t sample, int64_t head, int64_t which) const {
    return {base + ((sample * tokens * 3 + which) * heads + head) * width, 3 * heads * width};
  }
  /// A head in a tensor laid out as the output.
  Matrix head(float* base, int64_t sample, int64_t head) const {
    return {base + (sample * tokens * heads + head) * width, heads * width};
  }
};

/// Copies a head's rows, pairs turned by the table.
JEPA_INLINE void turn(const Call& call, int64_t sample, Matrix from, Matrix to) {
  const float* cos = call.cos + sample * call.table_step;
  const float* sin = call.sin + sample * call.table_step;
  for (int64_t row = 0; row < call.tokens; ++row) {
    const float* x = from.data + row * from.stride;
    float* y = to.data + row * to.stride;
    for (int64_t i = 0; i < call.rotated; i += 2) {
      const float first = x[i], second = x[i + 1];
      y[i] = first * cos[i] - second * sin[i];
      y[i + 1] = second * cos[i + 1] + first * sin[i + 1];
    }
    for (int64_t i = call.rotated; i < call.width; ++i) y[i] = x[i];
    cos += call.rotated;
    sin += call.rotated;
  }
}

/// The transpose of `turn`, for gradients.
JEPA_INLINE void turn_back(const Call& call, int64_t sample, Matrix from, Matrix to) {
  const float* cos = call.cos + sample * call.table_step;
  const float* sin = call.sin + sample * call.table_step;
  for (int64_t row = 0; row < call.tokens; ++row) {
    const float* x = from.data + row * from.stride;
    float* y = to.data + row * to.stride;
    for (int64_t i = 0; i < call.rotated; i += 2) {
      const float first = x[i], second = x[i + 1];
      y[i] = first * cos[i] + second * sin[i + 1];
      y[i + 1] = second * cos[i + 1] - first * sin[i];
    }
    for (int64_t i = call.rotated; i < call.width; ++i) y[i] = x[i];
    cos += call.rotated;
    sin += call.rotated;
  }
}

/// Turns rows of scores into e^(score - largest); gives each row's sum and largest score.
JEPA_INLINE void exponentials(int64_t rows, int64_t tokens, Matrix scores, float* sums,
                              float* maxima) {
  for (int64_t row = 0; row < rows; ++row) {
    float* s = scores.data + row * scores.stride;
    std::fill(s + tokens, s + scores.stride, kNoScore);
    simd::Floats most = simd::load(s);
    for (int64_t i = simd::kLanes; i < scores.stride; i += simd::kLanes) {
      const simd::Floats v = simd::load(s + i);
      most = v > most ? v : most;
    }
    maxima[row] = simd::largest(most);
    const simd::Floats shift = simd::all(maxima[row]);
    simd::Floats total = {};
    for (int64_t i = 0; i < scores.stride; i += simd::kLanes) {
      const simd::Floats e = simd::exp(simd::load(s + i) - shift);
      simd::store(s + i, e);
      total += e;
    }
    sums[row] = simd::sum(total);
  }
}

/// One head of one sample: output and log-sum-exp of every row.
void forward_head(const Call& call, int64_t sample, int64_t head, float* qkv, float* out,
                  float* log_sums) {
  const int64_t n = call.tokens, d = call.width;
  const int64_t block = call.block_rows();
  float* memory = scratch(block * call.row_stride() + 2 * n * d);
  const Matrix scores{memory, call.row_stride()};
  Matrix q = call.part(qkv, sample, head, 0);
  Matrix k = call.part(qkv, sample, head, 1);
  const Matrix v = call.part(qkv, sample, head, 2);
  if (call.rotated > 0) {
    const Matrix turned_q{memory + block * call.row_stride(), d};
    const Matrix turned_k{turned_q.data + n * d, d};
    simd::widest([&]() __attribute__((always_inline)) {
      turn(call, sample, q, turned_q);
      turn(call, sample, k, turned_k);
    });
    q = turned_q;
    k = turned_k;
  }
  float sums[kLongest], maxima[kLongest];
  for (int64_t start = 0; start < n; start += block) {
    const int64_t rows = std::min(block, n - start);
    multiply('N', 'T', rows, n, d, call.scale(), q.rows_from(start), k, 0, scores);
    simd::widest([&]() __attribute__((always_inline)) {
      exponentials(rows, n, scores, sums, maxima);
    });
    const Matrix o = call.head(out, sample, head).rows_from(start);
    multiply('N', 'N', rows, d, n, 1, scores, v, 0, o);
    for (int64_t row = 0; row < rows; ++row) {
      const float inverse = 1.0f / sums[row];
      for (int64_t i = 0; i < d; ++i) o.data[row * o.stride + i] *= inverse;
      log_sums[start + row] = maxima[row] + std::log(sums[row]);
    }
  }
}

/// Turns scores into probabilities and their gradients into gradients of the scores.
JEPA_INLINE void score_gradients(const Call& call, int64_t rows, const float* log_sums, Matrix o,
                                 Matrix grad_o, Matrix scores, Matrix grads) {
  const simd::Floats scale = simd::all(call.scale());
  for (int64_t row = 0; row < rows; ++row) {
    float along = 0;  // sum of p * dp over the row = sum of o * do
    for (int64_t i = 0; i < call.width; ++i) {
      along += o.data[row * o.stride + i] * grad_o.data[row * grad_o.stride + i];
    }
    float* p = scores.data + row * scores.stride;
    float* g = grads.data + row * grads.stride;
    std::fill(p + call.tokens, p + scores.stride, kNoScore);
    std::fill(g + call.tokens, g + grads.stride, 0.0f);
    const simd::Floats shift = simd::all(log_sums[row]);
    const simd::Floats mean = simd::all(along);
    for (int64_t i = 0; i < scores.stride; i += simd::kLanes) {
      const simd::Floats e = simd::exp(simd::load(p + i) - shift);
      simd::store(p + i, e);
      simd::store(g + i, e * (simd::load(g + i) - mean) * scale);
    }
  }
}

/// Gradients of one head's part of qkv. Scores are computed again rather than remembered.
void backward_head(const Call& call, int64_t sample, int64_t head, float* qkv, float* out,
                   float* grad_out, const float* log_sums, float* grad_qkv) {
  const int64_t n = call.tokens, d = call.width;
  const int64_t block = call.block_rows();
  float* memory = scratch(2 * block * call.row_stride() + 4 * n * d);
  const Matrix scores{memory, call.row_stride()};
  const Matrix grads{memory + block * call.row_stride(), call.row_stride()};
  float* turned = memory + 2 * block * call.row_stride();
  Matrix q = call.part(qkv, sample, head, 0);
  Matrix k = call.part(qkv, sample, head, 1);
  const Matrix v = call.part(qkv, sample, head, 2);
  Matrix grad_q = call.part(grad_qkv, sample, head, 0);
  Matrix grad_k = call.part(grad_qkv, sample, head, 1);
  const Matrix grad_v = call.part(grad_qkv, sample, head, 2);
  const Matrix plain_grad_q = grad_q, plain_grad_k = grad_k;
  if (call.rotated > 0) {
    const Matrix turned_q{turned, d}, turned_k{turned + n * d, d};
    simd::widest([&]() __attribute__((always_inline)) {
      turn(call, sample, q, turned_q);
      turn(call, sample, k, turned_k);
    });
    q = turned_q;
    k = turned_k;
    grad_q = {turned + 2 * n * d, d};
    grad_k = {turned + 3 * n * d, d};
  }
  for (int64_t start = 0; start < n; start += block) {
    const int64_t rows = std::min(block, n - start);
    const float add = start == 0 ? 0.0f : 1.0f;
    const Matrix o = call.head(out, sample, head).rows_from(start);
    const Matrix grad_o = call.head(grad_out, sample, head).rows_from(start);
    multiply('N', 'T', rows, n, d, call.scale(), q.rows_from(start), k, 0, scores);
    multiply('N', 'T', rows, n, d, 1, grad_o, v, 0, grads);
    simd::widest([&]() __attribute__((always_inline)) {
      score_gradients(call, rows, log_sums + start, o, grad_o, scores, grads);
    });
    multiply('T', 'N', n, d, rows, 1, scores, grad_o, add, grad_v);
    multiply('N', 'N', rows, d, n, 1, grads, k, 0, grad_q.rows_from(start));
    multiply('T', 'N', n, d, rows, 1, grads, q.rows_from(start), add, grad_k);
  }
  if (call.rotated > 0) {
    simd::widest([&]() __attribute__((always_inline)) {
      turn_back(call, sample, grad_q, plain_grad_q);
      turn_back(call, sample, grad_k, plain_grad_k);
    });
  }
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& qkv,
                               const std::optional<torch::Tensor>& cos_table,
                               const std::optional<torch::Tensor>& sin_table) {
    const auto cos = cos_table.value_or(torch::Tensor());
    const auto sin = sin_table.value_or(torch::Tensor());
    const Call call(qkv, cos, sin);
    auto out = torch::empty({call.batch, call.tokens, call.heads * call.width}, qkv.options());
    auto log_sums = torch::empty({call.batch, call.heads, call.tokens}, qkv.options());
    float* qkv_data = qkv.data_ptr<float>();
    float* out_data = out.data_ptr<float>();
    float* log_sum_data = log_sums.data_ptr<float>();
    at::parallel_for(0, call.batch * call.heads, 1, [&](int64_t begin, int64_t end) {
      const SerialBlas serial;
      for (int64_t i = begin; i < end; ++i) {
        forward_head(call, i / call.heads, i % call.heads, qkv_data, out_data,
                     log_sum_data + i * call.tokens);
      }
    });
    context->save_for_backward({qkv, cos, sin, out, log_sums});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto& qkv = saved[0];
    const Call call(qkv, saved[1], saved[2]);
    const auto grad_out = gradients[0].contiguous();
    auto grad_qkv = torch::empty_like(qkv);
    float* qkv_data = qkv.data_ptr<float>();
    float* out_data = saved[3].data_ptr<float>();
    float* grad_out_data = grad_out.data_ptr<float>();
    const float* log_sum_data = saved[4].data_ptr<float>();
    float* grad_data = grad_qkv.data_ptr<float>();
    at::parallel_for(0, call.batch * call.heads, 1, [&](int64_t begin, int64_t end) {
      const SerialBlas serial;
      for (int64_t i = begin; i < end; ++i) {
        backward_head(call, i / call.heads, i % call.heads, qkv_data, out_data, grad_out_data,
                      log_sum_data + i * call.tokens, grad_data);
      }
    });
    return {grad_qkv, {}, {}};
  }
};

}  // namespace

bool attention_kernel_fits(const torch::Tensor& qkv) {
  return sgemm_ != nullptr && qkv.is_cpu() && qkv.scalar_type() == torch::kFloat32 &&
         qkv.size(1) <= kLongest;
}

torch::Tensor attention_kernel(const torch::Tensor& qkv, const RotaryTable& rotary) {
  TORCH_CHECK(qkv.dim() == 5 && qkv.size(2) == 3 && qkv.is_contiguous(),
              "attention_kernel: contiguous qkv [B, N, 3, heads, d] expected, got ", qkv.sizes());
  using Table = std::optional<torch::Tensor>;
  if (!rotary.defined()) return AttentionFunction::apply(qkv, Table(), Table());
  return AttentionFunction::apply(qkv, Table(rotary.cos.contiguous()),
                                  Table(rotary.sin.contiguous()));
}

}  // namespace jepa::nn
