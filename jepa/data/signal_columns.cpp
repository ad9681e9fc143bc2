#include <jepa/data/signal_columns.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>

namespace jepa {
namespace {

/// A step of more source frames than this has no actions worth listing, and would take memory.
constexpr int64_t kMostActions = 1 << 16;

bool is_finite(float value) { return std::isfinite(value); }

}  // namespace

SignalColumns::SignalColumns(const Hdf5File& file, const ClipOptions& options, int64_t frames,
                             int64_t episodes)
    : path_(file.path()), mode_(options.action_mode) {
  if (mode_ != "concat" && mode_ != "sum" && mode_ != "last") {
    throw ConfigError("action_mode: expected concat, sum or last, found '" + mode_ + "'");
  }
  for (const auto& name : options.signal_names()) {
    if (name == "pixels") throw ConfigError("signals: 'pixels' are the clip itself");
    Hdf5Dataset dataset(file, name);
    const int64_t rows = dataset.shape().empty() ? -1 : dataset.shape()[0];
    const bool per_frame = rows == frames;
    if (!per_frame && rows != episodes) {
      throw DataError(file.path() + ": dataset '" + name + "': expected " + std::to_string(frames) +
                      " rows (frames) or " + std::to_string(episodes) + " (episodes), found " +
                      (rows < 0 ? "none" : std::to_string(rows)));
    }
    if (dataset.kind() == Hdf5Dataset::Kind::other || dataset.row_size() < 1) {
      throw DataError(file.path() + ": dataset '" + name + "': expected numbers");
    }
    columns_.push_back({name, std::move(dataset), per_frame});
  }
}

Signals SignalColumns::read(const std::vector<int64_t>& chosen, int64_t end, int64_t step,
                            int64_t episode) const {
  Signals signals;
  for (const auto& column : columns_) {
    if (!column.per_frame) {
      const std::vector<int64_t> held(chosen.size(), episode);
      signals[column.name] = frames_of(column, held);
    } else if (column.name == kActionSignal) {
      signals[column.name] = actions_of(column, chosen, end, step);
    } else {
      signals[column.name] = frames_of(column, chosen);
    }
  }
  return signals;
}

Signal SignalColumns::frames_of(const Column& column, const std::vector<int64_t>& chosen) const {
  const int64_t width = column.dataset.row_size();
  const int64_t first = chosen.front();
  const int64_t rows = chosen.back() - first + 1;
  // One read of all rows between, as rows are small; far apart, one a frame.
  const bool together = rows <= 16 * static_cast<int64_t>(chosen.size());
  std::vector<float> between(static_cast<size_t>(together ? rows * width : width));
  if (together) column.dataset.read_rows(first, rows, between.data());
  Signal signal{width, {}};
  for (const int64_t frame : chosen) {
    if (!together) column.dataset.read_rows(frame, 1, between.data());
    const auto row = between.begin() + (together ? (frame - first) * width : 0);
    signal.values.insert(signal.values.end(), row, row + width);
  }
  return signal;
}

Signal SignalColumns::actions_of(const Column& column, const std::vector<int64_t>& chosen,
                                 int64_t end, int64_t step) const {
  const int64_t width = column.dataset.row_size();
  if (step > kMostActions || step * width > kMostActions) {
    throw ConfigError("frame_step: " + std::to_string(step) + " actions a frame are too many");
  }
  const bool concat = mode_ == "concat";
  const int64_t out = concat ? step * width : width;
  Signal signal{out, std::vector<float>(chosen.size() * static_cast<size_t>(out), 0.0F)};
  std::vector<float> rows(static_cast<size_t>(step * width));
  for (size_t i = 0; i < chosen.size(); ++i) {
    // The actions taken until the next frame: fewer at the episode's end, none where it is held.
    if (i > 0 && chosen[i] == chosen[i - 1]) continue;
    int64_t until = std::min(end, chosen[i] + step);
    if (i + 1 < chosen.size() && chosen[i + 1] > chosen[i]) until = std::min(until, chosen[i + 1]);
    const int64_t count = until - chosen[i];
    column.dataset.read_rows(chosen[i], count, rows.data());
    float* to = signal.values.data() + i * static_cast<size_t>(out);
    for (int64_t row = 0; row < count; ++row) {
      // An episode's last action leads nowhere, and a block may be cut short before its last frame.
      const int64_t before_end = end - (chosen[i] + row);
      const float* values = rows.data() + row * width;
      if (before_end > 2 ? !std::all_of(values, values + width, is_finite)
                         : before_end == 2 && !is_finite(*values)) {
        throw DataError(path_ + ": dataset '" + column.name + "': row " +
                        std::to_string(chosen[i] + row) + " is not a finite number");
      }
      if (mode_ == "last" && row != step - 1) continue;
      for (int64_t k = 0; k < width; ++k) {
        const float value = values[k];
        to[concat ? row * width + k : k] += std::isnan(value) ? 0.0F : value;
      }
    }
  }
  return signal;
}

}  // namespace jepa
