#include <eval/probes/token_cache.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/mapped_file.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <unistd.h>

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

torch::Tensor TokenCache::finish() {
  TORCH_CHECK(file_ >= 0 && rows_ > 0, "token cache: nothing was added");
  const auto mapped = MappedFile::open(path_);
  ::close(file_);
  ::unlink(path_.c_str());  // the mapping keeps what it needs
  file_ = -1;
  return mapped->tensor(0, mapped->size(), {rows_, tokens_, width_},
                        {tokens_ * width_, width_, 1}, torch::kFloat32);
}

}  // namespace jepa::eval::probes
