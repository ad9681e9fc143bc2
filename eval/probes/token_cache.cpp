#include <eval/probes/token_cache.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace jepa::eval::probes {

TokenCache::TokenCache(const std::string& folder) {
  std::error_code none;
  path_ = folder.empty() ? std::filesystem::temp_directory_path(none).string() : folder;
  if (path_.empty()) path_ = ".";
  path_ += "/jepa-tokens-XXXXXX";
  file_ = ::mkstemp(path_.data());
  if (file_ < 0) {
    throw DataError(path_ + ": cannot be made: " + std::strerror(errno));
  }
}

TokenCache::~TokenCache() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(path_.c_str());
}

void TokenCache::append(const torch::Tensor& tokens) {
  TORCH_CHECK(file_ >= 0 && tokens.dim() == 3, "token cache: expected tokens [B, N, D], found ",
              tokens.sizes());
  if (rows_ == 0) {
    tokens_ = tokens.size(1);
    width_ = tokens.size(2);
  }
  if (tokens.size(1) != tokens_ || tokens.size(2) != width_) {
    throw DataError(c10::str("clips of different sizes: ", tokens.size(1), " tokens of width ",
                             tokens.size(2), " after ", tokens_, " of width ", width_));
  }
  const auto plain = tokens.to(torch::kCPU, torch::kFloat32).contiguous();
  const char* data = static_cast<const char*>(plain.const_data_ptr());
  for (size_t left = plain.nbytes(); left > 0;) {
    const ssize_t written = ::write(file_, data, left);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      throw DataError(path_ + ": tokens of the attentive probes cannot be written: " +
                      std::strerror(errno) + "; name another folder with --cache");
    }
    data += written;
    left -= static_cast<size_t>(written);
  }
  rows_ += tokens.size(0);
}

TokenRows TokenCache::finish() {
  TORCH_CHECK(file_ >= 0 && rows_ > 0, "token cache: nothing was added");
  ::unlink(path_.c_str());  // it stays readable until it is closed
  const std::shared_ptr<const int> file(new int(std::exchange(file_, -1)), [](const int* open) {
    ::close(*open);
    delete open;
  });
  return TokenRows(file, rows_, tokens_, width_);
}

TokenRows::TokenRows(torch::Tensor tokens) : memory_(std::move(tokens)) {
  TORCH_CHECK(memory_.dim() == 3, "expected tokens [n, N, D], found ", memory_.sizes());
  size_ = memory_.size(0);
  tokens_ = memory_.size(1);
  width_ = memory_.size(2);
}

torch::Tensor TokenRows::rows(const torch::Tensor& ids) const {
  if (memory_.defined()) return memory_.index_select(0, ids);
  const auto list = ids.contiguous();
  auto read = torch::empty({list.size(0), tokens_, width_}, torch::kFloat32);
  const auto row_bytes = static_cast<size_t>(tokens_ * width_) * sizeof(float);
  char* to = static_cast<char*>(read.data_ptr());
  for (int64_t i = 0; i < list.size(0); ++i, to += row_bytes) {
    const int64_t id = list.const_data_ptr<int64_t>()[i];
    TORCH_CHECK(id >= 0 && id < size_, "token cache: row ", id, " of ", size_);
    for (size_t done = 0; done < row_bytes;) {
      const ssize_t got = ::pread(*file_, to + done, row_bytes - done,
                                  static_cast<off_t>(static_cast<size_t>(id) * row_bytes + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        throw DataError(std::string("tokens of the attentive probes cannot be read back: ") +
                        (got == 0 ? "the file is too short" : std::strerror(errno)));
      }
      done += static_cast<size_t>(got);
    }
  }
  return read;
}

torch::Tensor TokenRows::slice(int64_t from, int64_t to) const {
  return rows(torch::arange(from, std::min(to, size_)));
}

torch::Tensor token_moments(const TokenRows& tokens) {
  constexpr int64_t kBatch = 64;
  // Over all tokens, of what `value` makes of a part [m, D] in double.
  const auto mean_of = [&](const auto& value) {
    auto sum = torch::zeros({tokens.width()}, torch::kFloat64);
    double count = 0;
    for (int64_t at = 0; at < tokens.size(); at += kBatch) {
      const auto part = tokens.slice(at, at + kBatch).flatten(0, 1).to(torch::kFloat64);
      sum += value(part).sum(0);
      count += static_cast<double>(part.size(0));
    }
    return sum / count;
  };
  const auto mean = mean_of([](const torch::Tensor& part) { return part; });
  const auto variance = mean_of([&](const torch::Tensor& part) { return (part - mean).square(); });
  return torch::stack({mean, variance.sqrt()}).to(torch::kFloat32);
}

}  // namespace jepa::eval::probes
