#include <jepa/data/plain_batch.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <memory>
#include <sstream>

namespace jepa {
namespace {

std::string shape_text(const int64_t* shape) {
  std::ostringstream text;
  text << shape[1] << " frames of " << shape[2] << " x " << shape[3] << " x " << shape[0];
  return text.str();
}

void append(const PlainClip& clip, size_t most, const ClipSource& source, PlainBatch& batch) {
  const bool first = batch.indices.empty();
  if (first) {
    std::copy(clip.shape, clip.shape + 4, batch.shape);
    batch.clips.reserve(clip.pixels.size() * most);
    for (const auto& [name, signal] : clip.signals) batch.signals[name].width = signal.width;
  } else if (!std::equal(clip.shape, clip.shape + 4, batch.shape)) {
    const bool lengths = clip.shape[1] != batch.shape[1];
    throw DataError(source.name(clip.index) + ": " + shape_text(clip.shape) + ", but " +
                    shape_text(batch.shape) + " in " + source.name(batch.indices.front()) +
                    (lengths ? "; clip.frames makes lengths equal" : "; a crop makes sizes equal"));
  }
  bool same = clip.signals.size() == batch.signals.size();
  for (const auto& [name, signal] : clip.signals) {
    const auto found = batch.signals.find(name);
    same = same && found != batch.signals.end() && found->second.width == signal.width;
    if (!same) break;
    auto& values = found->second.values;
    values.insert(values.end(), signal.values.begin(), signal.values.end());
  }
  if (!same) {
    throw DataError(source.name(clip.index) + ": its signals differ from others of its batch");
  }
  batch.clips.insert(batch.clips.end(), clip.pixels.begin(), clip.pixels.end());
  batch.indices.push_back(clip.index);
}

}  // namespace

PlainBatch join_clips(std::vector<PlainClip> clips, const ClipSource& source,
                      const LoaderOptions& options) {
  PlainBatch batch;
  try {
    for (auto& made : clips) {
      const PlainClip clip = std::move(made);
      batch.lost.insert(batch.lost.end(), clip.lost.begin(), clip.lost.end());
      if (clip.failure) {
        // With shuffle each place has a clip: here none could be found for it.
        if (clip.lost.empty() || options.max_errors == 0 || options.shuffle) {
          std::rethrow_exception(clip.failure);
        }
        continue;
      }
      append(clip, clips.size(), source, batch);
    }
  } catch (...) {
    batch.failure = std::current_exception();
  }
  return batch;
}

ClipBatch wrap_batch(PlainBatch plain) {
  auto owner = std::make_shared<PlainBatch>(std::move(plain));
  const auto count = static_cast<int64_t>(owner->indices.size());
  const auto& shape = owner->shape;
  const auto keep = [owner](void*) {};
  ClipBatch batch;
  batch.clips = torch::from_blob(
      owner->clips.data(), {count, shape[0], shape[1], shape[2], shape[3]}, keep, torch::kUInt8);
  batch.indices = torch::from_blob(owner->indices.data(), {count}, keep, torch::kInt64);
  for (auto& [name, signal] : owner->signals) {
    batch.signals[name] = torch::from_blob(signal.values.data(), {count, shape[1], signal.width},
                                           keep, torch::kFloat32);
  }
  return batch;
}

ClipBatch join_batches(std::vector<ClipBatch> parts, const ClipSource& source) {
  if (parts.size() == 1) return std::move(parts.front());
  std::vector<torch::Tensor> clips, indices;
  std::map<std::string, std::vector<torch::Tensor>> signals;
  for (const auto& part : parts) {
    bool same = part.clips.sizes().slice(1) == parts[0].clips.sizes().slice(1) &&
                part.signals.size() == parts[0].signals.size();
    for (const auto& [name, values] : part.signals) {
      const auto first = parts[0].signals.find(name);
      same = same && first != parts[0].signals.end() && first->second.size(2) == values.size(2);
      signals[name].push_back(values);
    }
    if (!same) {
      throw DataError(source.name(part.indices[0].item<int64_t>()) +
                      ": its length, size or signals differ from those of " +
                      source.name(parts[0].indices[0].item<int64_t>()));
    }
    clips.push_back(part.clips);
    indices.push_back(part.indices);
  }
  ClipBatch batch{torch::cat(clips), torch::cat(indices)};
  for (const auto& [name, values] : signals) batch.signals[name] = torch::cat(values);
  return batch;
}

}  // namespace jepa
