// Tokens of many clips in a temporary file: attentive probes read them a batch at a time.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace jepa::eval::probes {

/// Writes tokens to a file as they come and gives them back as a tensor that lies in the page cache,
/// not in the process's own memory. The file has no name once the tensor is there, so that nothing
/// is left behind however the program ends.
class TokenCache {
 public:
  /// @param folder where the file is made; empty: the system's temporary folder
  /// @throws DataError naming the folder
  explicit TokenCache(const std::string& folder);
  ~TokenCache();
  TokenCache(const TokenCache&) = delete;
  TokenCache& operator=(const TokenCache&) = delete;

  /// Adds tokens float [B, N, D]; N and D are those of the first batch.
  /// @throws DataError where the disk is full
  void append(const torch::Tensor& tokens);
  /// All tokens, float [n, N, D]; nothing may be added after it.
  torch::Tensor finish();

 private:
  std::string path_;
  int file_ = -1;
  int64_t rows_ = 0, tokens_ = 0, width_ = 0;
};

}  // namespace jepa::eval::probes
