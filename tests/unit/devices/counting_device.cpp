#include "counting_device.hpp"

#include <jepa/generator.hpp>

#include <ATen/EmptyTensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

namespace jepa {
namespace {

std::mutex waits_mutex;
std::map<std::string, int> waits;
thread_local bool in_kernel = false;  // a kernel's own copies are no waits of the code under test

void count_wait(const std::string& what) {
  if (in_kernel) return;
  const std::lock_guard lock(waits_mutex);
  ++waits[what];
}

class InKernel {
 public:
  InKernel() : before_(std::exchange(in_kernel, true)) {}
  ~InKernel() { in_kernel = before_; }

 private:
  bool before_;
};

class HostMemory : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = std::malloc(bytes == 0 ? 1 : bytes);
    return {data, data, &std::free, kCountingDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};
HostMemory memory;

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::HPU);

torch::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type,
                    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                    std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory, kKeys, c10::dtype_or_default(type), format);
}

torch::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                            std::optional<at::ScalarType> type, std::optional<at::Layout>,
                            std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &memory, kKeys,
                                           c10::dtype_or_default(type));
}

/// The same numbers as a tensor of the host.
torch::Tensor on_host(const torch::Tensor& x) {
  if (x.is_cpu()) return x;
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), x.options().device(torch::kCPU));
}

torch::Tensor copy_from(const torch::Tensor& from, const torch::Tensor& to, bool non_blocking) {
  if (to.is_cpu()) {
    count_wait("copy to the host");
  } else if (from.is_cpu() && !non_blocking && from.dim() > 0) {  // scalars travel with a kernel
    count_wait("blocking copy to the device");
  }
  const InKernel inside;
  on_host(to).copy_(on_host(from));
  return to;
}

torch::Tensor copy_from_and_resize(const torch::Tensor& from, const torch::Tensor& to) {
  const InKernel inside;
  if (to.sizes() != from.sizes()) {
    TORCH_CHECK(to.numel() == 0, "a kernel wrote ", from.sizes(), " to ", to.sizes());
    const torch::Tensor fresh = torch::empty_like(from, to.options());
    to.set_(fresh.storage(), 0, fresh.sizes(), fresh.strides());
  }
  on_host(to).copy_(on_host(from));
  return to;
}

// Convolutions of a device without kernels are no operators that fall back.
torch::Tensor convolution(const torch::Tensor& x, const torch::Tensor& weight,
                          const std::optional<torch::Tensor>& bias, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                          at::IntArrayRef output_padding, int64_t groups) {
  const InKernel inside;
  std::optional<torch::Tensor> shift;
  if (bias && bias->defined()) shift = on_host(*bias);
  return at::convolution(on_host(x), on_host(weight), shift, stride, padding, dilation, transposed,
                         output_padding, groups)
      .to(kCountingDevice);
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> convolution_backward(
    const torch::Tensor& gradient, const torch::Tensor& x, const torch::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  const InKernel inside;
  const int64_t channels = gradient.size(1);
  const auto [of_x, of_weight, of_bias] = at::convolution_backward(
      on_host(gradient), on_host(x), on_host(weight), at::IntArrayRef(channels), stride, padding,
      dilation, transposed, output_padding, groups, wanted);
  const auto there = [](const torch::Tensor& y) { return y.defined() ? y.to(kCountingDevice) : y; };
  return {there(of_x), there(of_weight), there(of_bias)};
}

void by_cpu_kernel(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  static const std::set<std::string> kWaiting = {"aten::_local_scalar_dense",
                                                 "aten::nonzero",
                                                 "aten::masked_select",
                                                 "aten::_unique2",
                                                 "aten::unique_dim",
                                                 "aten::unique_consecutive",
                                                 "aten::bincount",
                                                 "aten::equal",
                                                 "aten::repeat_interleave",
                                                 "aten::is_set_to",
                                                 "aten::nonzero_numpy"};
  const std::string& name = op.schema().name();
  if (kWaiting.contains(name)) count_wait(name);
  const InKernel inside;
  at::native::cpu_fallback(op, stack);
}

class Guard : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kCountingDevice.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return kCountingDevice; }
  c10::Device getDevice() const override { return kCountingDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kCountingDevice); }
};
const Guard guard;
const c10::impl::DeviceGuardImplRegistrar guard_registered(c10::DeviceType::HPU, &guard);

class HPUHooks : public at::HPUHooksInterface {
 public:
  explicit HPUHooks(at::HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator generator = jepa::seeded_generator(0);
    return generator;
  }
};

TORCH_LIBRARY_IMPL(aten, HPU, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
}

TORCH_LIBRARY_IMPL(_, HPU, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_cpu_kernel>());
}

}  // namespace

std::map<std::string, int> take_waits() {
  const std::lock_guard lock(waits_mutex);
  return std::exchange(waits, {});
}

}  // namespace jepa

namespace at {
using jepa::HPUHooks;
REGISTER_HPU_HOOKS(HPUHooks);
}  // namespace at
