#include <eval/physics/heat_map.hpp>
#include <eval/report/image.hpp>
#include <eval/watching/film.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cstdio>

namespace jepa::eval::watching {
namespace {

constexpr size_t kDrawnTogether = 4;  // what is drawn needs ten times the memory of its frames

}  // namespace

torch::Tensor draw_frames(const std::vector<SeenFrame>& frames, int64_t scale, double full) {
  std::vector<torch::Tensor> pictures, maps;
  torch::Tensor none;
  for (const auto& frame : frames) {
    if (frame.map.defined()) none = torch::zeros_like(frame.map);
  }
  if (!none.defined()) none = torch::zeros({1, 1});
  for (const auto& frame : frames) {
    pictures.push_back(frame.picture);
    maps.push_back(frame.map.defined() ? frame.map : none);
  }
  const auto clip = report::upscale(report::clip_frames(torch::stack(pictures, 1)), scale);
  return physics::draw_heat(clip, torch::stack(maps), full);
}

void write_clip(const std::string& path, const std::vector<SeenFrame>& frames, int64_t scale,
                double full, double fps) {
  std::unique_ptr<report::VideoEncoder> encoder;
  for (size_t i = 0; i < frames.size(); i += kDrawnTogether) {
    const auto from = frames.begin() + static_cast<std::ptrdiff_t>(i);
    const auto count = std::min(kDrawnTogether, frames.size() - i);
    const auto drawn = draw_frames({from, from + static_cast<std::ptrdiff_t>(count)}, scale, full);
    if (!encoder) {
      encoder = std::make_unique<report::VideoEncoder>(drawn.size(1), drawn.size(2), fps, path);
    }
    encoder->add(drawn);
  }
  if (encoder) encoder->finish();
}

FilmWriter::FilmWriter(std::string folder, double fps, int64_t piece, int64_t scale)
    : folder_(std::move(folder)), fps_(fps), piece_(piece), scale_(scale) {}

std::string FilmWriter::name(int64_t piece) {
  char text[32];
  std::snprintf(text, sizeof text, "film-%03lld.mp4", static_cast<long long>(piece));
  return text;
}

std::string FilmWriter::place(int64_t index) const {
  char text[32];
  std::snprintf(text, sizeof text, "#t=%.3f",
                (static_cast<double>(index % piece_) + 0.5) / fps_);  // its middle
  return name(index / piece_) + text;
}

void FilmWriter::add(const SeenFrame& frame, double full) {
  full_ = full;
  waiting_.push_back(frame);
  const auto so_far = written_ + static_cast<int64_t>(waiting_.size());
  if (waiting_.size() < kDrawnTogether && so_far < piece_) return;
  flush();
  if (written_ >= piece_) {
    encoder_->finish();
    encoder_.reset();
    written_ = 0;
  }
}

void FilmWriter::flush() {
  if (waiting_.empty()) return;
  const auto drawn = draw_frames(waiting_, scale_, full_);
  if (!encoder_) {
    encoder_ = std::make_unique<report::VideoEncoder>(drawn.size(1), drawn.size(2), fps_,
                                                      folder_ + "/" + name(pieces_++));
  }
  encoder_->add(drawn);
  written_ += drawn.size(0);
  waiting_.clear();
}

void FilmWriter::finish() {
  flush();
  if (encoder_) encoder_->finish();
  encoder_.reset();
}

}  // namespace jepa::eval::watching
