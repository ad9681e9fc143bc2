#include <jepa/data/readable_clips.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <utility>

namespace jepa {

torch::Tensor SomeClips::column(const std::string& name) const {
  return source_->column(name).index_select(0, torch::tensor(indices_, torch::kInt64));
}

std::shared_ptr<const ClipSource> readable_clips(std::shared_ptr<const ClipSource> source,
                                                 const LoaderOptions& loader,
                                                 std::vector<std::string>& left_out) {
  if (loader.max_errors == 0) return source;
  LoaderOptions options = loader;
  options.shuffle = false;
  ClipLoader clips(source, options, /*seed=*/0);
  std::vector<int64_t> indices;
  for (ClipBatch batch = clips.next(); batch.size() > 0; batch = clips.next()) {
    const auto* numbers = batch.indices.const_data_ptr<int64_t>();
    indices.insert(indices.end(), numbers, numbers + batch.size());
  }
  const LoaderStats& stats = clips.stats();
  left_out.insert(left_out.end(), stats.messages.begin(), stats.messages.end());
  if (indices.empty()) throw DataError("none of the clips can be read: " + stats.messages.at(0));
  if (stats.errors == 0) return source;
  return std::make_shared<SomeClips>(std::move(source), std::move(indices));
}

}  // namespace jepa
