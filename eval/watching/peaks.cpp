#include <eval/watching/peaks.hpp>

#include <algorithm>
#include <cmath>

namespace jepa::eval::watching {

void Peaks::add(const SeenFrame& frame) {
  recent_.push_back(frame);
  if (static_cast<int64_t>(recent_.size()) > 2 * around_ + 1) recent_.pop_front();
  const double surprise = frame.row.surprise;
  if (std::isfinite(surprise) && (!candidate_ || surprise > candidate_->row.surprise)) {
    candidate_ = frame;
  }
  if (candidate_ && frame.index >= candidate_->index + around_) settle();
}

void Peaks::settle() {
  const SeenFrame best = *candidate_;
  candidate_.reset();
  // A frame just before may be higher: that of the last peak, from which the curve falls.
  const bool summit = std::none_of(recent_.begin(), recent_.end(), [&](const SeenFrame& frame) {
    return frame.row.surprise > best.row.surprise && std::abs(frame.index - best.index) <= around_;
  });
  if (!summit) return;
  const bool full = static_cast<int64_t>(peaks_.size()) >= count_;
  if (full && (count_ == 0 || peaks_.back().at.row.surprise >= best.row.surprise)) return;
  if (full) peaks_.pop_back();
  Peak peak{best, {}};
  for (const auto& frame : recent_) {
    if (std::abs(frame.index - best.index) <= around_) peak.clip.push_back(frame);
  }
  const auto place = std::find_if(peaks_.begin(), peaks_.end(), [&](const Peak& other) {
    return other.at.row.surprise < best.row.surprise;
  });
  peaks_.insert(place, std::move(peak));
}

void Peaks::finish() {
  if (candidate_) settle();
}

}  // namespace jepa::eval::watching
