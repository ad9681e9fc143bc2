// How dense the frames of a video usually are.
#pragma once

#include <algorithm>
#include <iterator>
#include <vector>

namespace jepa {

/// The median of the steps between times in order, of which there are at least two: a pause, or a
/// last frame that is held, says nothing of how dense the others are.
template <class Time>
Time median_step(const std::vector<Time>& times) {
  std::vector<Time> steps;
  for (size_t i = 1; i < times.size(); ++i) steps.push_back(times[i] - times[i - 1]);
  std::nth_element(steps.begin(), steps.begin() + std::ssize(steps) / 2, steps.end());
  return steps[steps.size() / 2];
}

}  // namespace jepa
