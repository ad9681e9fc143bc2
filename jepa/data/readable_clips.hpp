// What of a source can be read.
#pragma once

#include <jepa/data/clip_source.hpp>
#include <jepa/data/loader.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// Some clips of another source, with their values.
class SomeClips : public ClipSource {
 public:
  SomeClips(std::shared_ptr<const ClipSource> source, std::vector<int64_t> indices)
      : source_(std::move(source)), indices_(std::move(indices)) {}

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override {
    return source_->read(indices_.at(static_cast<size_t>(index)), random, crop);
  }
  std::string name(int64_t index) const override {
    return source_->name(indices_.at(static_cast<size_t>(index)));
  }
  std::vector<std::string> columns() const override { return source_->columns(); }
  torch::Tensor column(const std::string& name) const override;

 private:
  std::shared_ptr<const ClipSource> source_;
  std::vector<int64_t> indices_;
};

/// The clips of `source` that can be read, found by reading all of them once; the source itself
/// where that is all of them, or where `loader.max_errors` is 0, which reads nothing.
/// @param left_out takes a line for each clip that is not among them: its file and why
/// @throws DataError where more than `loader.max_errors` clips or all of them cannot be read
std::shared_ptr<const ClipSource> readable_clips(std::shared_ptr<const ClipSource> source,
                                                 const LoaderOptions& loader,
                                                 std::vector<std::string>& left_out);

}  // namespace jepa
