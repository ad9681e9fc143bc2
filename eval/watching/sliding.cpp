#include <eval/watching/sliding.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::watching {

SlidingSurprise::SlidingSurprise(physics::SurpriseModel model, const physics::WindowOptions& asked,
                                 Take take, OnWindows on_windows)
    : model_(std::move(model)),
      asked_(asked),
      take_(std::move(take)),
      on_windows_(std::move(on_windows)),
      overlap_(model_.tubelet) {
  physics::require_past(model_, asked_.past);
  if (asked_.stride < 1 || asked_.batch < 1) {
    throw ConfigError(
        c10::str("stride ", asked_.stride, " and batch ", asked_.batch, ": expected at least 1"));
  }
}

void SlidingSurprise::add(const torch::Tensor& picture) {
  frames_.push_back({picture});
  ++next_;
  if (next_ < start_ + model_.window) return;
  frames_.back().window = windows_++;
  waiting_.push_back(start_);
  start_ += asked_.stride;
  if (static_cast<int64_t>(waiting_.size()) >= asked_.batch) ask();
}

void SlidingSurprise::ask() {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> windows;
  for (const int64_t first : waiting_) {
    std::vector<torch::Tensor> frames;
    for (int64_t i = first; i < first + model_.window; ++i) frames.push_back(at(i).picture);
    windows.push_back(torch::stack(frames, 1));
  }
  if (!windows.empty()) {
    const auto all = torch::stack(windows).contiguous();
    if (on_windows_) on_windows_(all);
    const auto tokens = model_.tokens(all, asked_.past);
    for (size_t i = 0; i < waiting_.size(); ++i) {
      overlap_.add(waiting_[i] + asked_.past, tokens[static_cast<int64_t>(i)]);
    }
    waiting_.clear();
  }
  // The next window foretells frames from its past on.
  emit(std::min(start_ + asked_.past, next_));
}

void SlidingSurprise::emit(int64_t until) {
  const int64_t needed = std::min(start_, next_);  // by the next window
  for (; emitted_ < until; ++emitted_) {
    const Kept& kept = at(emitted_);
    take_({emitted_, kept.picture, overlap_.take(emitted_), kept.window});
  }
  for (; first_ < std::min(needed, emitted_); ++first_) frames_.pop_front();
}

void SlidingSurprise::cut() {
  ask();
  emit(next_);
  start_ = next_;
  emit(next_);
}

}  // namespace jepa::eval::watching
