#include <jepa/data/memory_source.hpp>
#include <jepa/errors.hpp>

#include <cstring>
#include <sstream>

namespace jepa {
namespace {

void check_column(const std::string& name, const torch::Tensor& column, int64_t size) {
  if (column.dim() < 1 || column.size(0) != size) {
    std::ostringstream text;
    text << "column '" << name << "': expected " << size << " rows, found " << column.sizes();
    throw DataError(text.str());
  }
}

}  // namespace

MemorySource::MemorySource(torch::Tensor clips, std::map<std::string, torch::Tensor> columns,
                           std::map<std::string, torch::Tensor> signals)
    : clips_(std::move(clips)), columns_(std::move(columns)), signals_(std::move(signals)) {
  TORCH_CHECK(clips_.dim() == 5 && clips_.scalar_type() == torch::kUInt8 &&
                  clips_.is_contiguous() && clips_.device().is_cpu(),
              "expected contiguous uint8 clips [E, T, H, W, C] on the CPU, found ",
              clips_.scalar_type(), " ", clips_.sizes());
  for (const auto& [name, column] : columns_) check_column(name, column, clips_.size(0));
  for (auto& [name, signal] : signals_) {
    if (signal.dim() != 3 || signal.size(0) != clips_.size(0) || signal.size(1) != clips_.size(1)) {
      std::ostringstream text;
      text << "signal '" << name << "': expected [" << clips_.size(0) << ", " << clips_.size(1)
           << ", K], found " << signal.sizes();
      throw DataError(text.str());
    }
    signal = signal.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  }
}

int64_t MemorySource::size() const { return clips_.size(0); }

RawClip MemorySource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const int64_t height = clips_.size(2);
  const int64_t width = clips_.size(3);
  const PixelRect rect = crop ? crop(height, width, random) : PixelRect{0, 0, height, width};
  const int64_t clip_bytes = clips_.size(1) * height * width * clips_.size(4);
  RawClip clip = cut_frames(clips_.const_data_ptr<uint8_t>() + index * clip_bytes, clips_.size(1),
                            height, width, clips_.size(4), rect);
  for (const auto& [name, signal] : signals_) {
    const int64_t count = signal.size(1) * signal.size(2);
    const float* values = signal.const_data_ptr<float>() + index * count;
    clip.signals[name] = {signal.size(2), {values, values + count}};
  }
  return clip;
}

std::vector<std::string> MemorySource::columns() const {
  std::vector<std::string> names;
  for (const auto& [name, column] : columns_) names.push_back(name);
  return names;
}

torch::Tensor MemorySource::column(const std::string& name) const {
  const auto found = columns_.find(name);
  return found == columns_.end() ? ClipSource::column(name) : found->second;
}

namespace {

/// Puts the signals of clip `i` into tensors of `count` clips.
void hold_signals(const RawClip& clip, int64_t i, int64_t count,
                  std::map<std::string, torch::Tensor>& held) {
  bool same = i == 0 || held.size() == clip.signals.size();
  for (const auto& [name, signal] : clip.signals) {
    if (i == 0) held[name] = torch::empty({count, clip.frames, signal.width});
    const auto found = held.find(name);
    same = same && found != held.end() && found->second.size(2) == signal.width &&
           static_cast<int64_t>(signal.values.size()) == clip.frames * signal.width;
    if (!same) break;
    std::memcpy(found->second[i].mutable_data_ptr(), signal.values.data(),
                signal.values.size() * sizeof(float));
  }
  if (!same) {
    throw DataError("clip " + std::to_string(i) + ": its signals differ from the first clip's");
  }
}

}  // namespace

std::shared_ptr<MemorySource> hold_in_memory(const ClipSource& source, int64_t count, uint64_t seed,
                                             const CropChooser& crop) {
  if (count <= 0) count = source.size();
  if (count == 0) throw DataError("no clips to hold in memory");
  torch::Tensor clips;
  std::map<std::string, torch::Tensor> signals;
  torch::Tensor indices = torch::empty({count}, torch::kInt64);
  for (int64_t i = 0; i < count; ++i) {
    Random random(seed, "clip", static_cast<uint64_t>(i));
    const RawClip clip = source.read(i % source.size(), random, crop);
    const std::vector<int64_t> shape = {clip.frames, clip.height, clip.width, clip.channels};
    if (!clips.defined()) {
      clips = torch::empty({count, shape[0], shape[1], shape[2], shape[3]}, torch::kUInt8);
    }
    if (clips.sizes().slice(1) != at::IntArrayRef(shape)) {
      std::ostringstream text;
      text << "clip " << i << ": expected frames, height, width, channels "
           << clips.sizes().slice(1) << " as in the first clip, found " << at::IntArrayRef(shape);
      throw DataError(text.str());
    }
    std::memcpy(clips[i].mutable_data_ptr(), clip.pixels.data(), clip.pixels.size());
    hold_signals(clip, i, count, signals);
    indices[i] = i % source.size();
  }
  std::map<std::string, torch::Tensor> columns;
  for (const auto& name : source.columns()) {
    columns[name] = source.column(name).index_select(0, indices);
  }
  return std::make_shared<MemorySource>(clips, columns, signals);
}

}  // namespace jepa
