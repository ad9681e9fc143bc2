// Tokens of many clips in a temporary file: attentive probes read them a batch at a time.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace jepa::eval::probes {

/// Tokens of n clips that are read by rows: from a file, or from memory where they are there.
class TokenRows {
 public:
  /// @param tokens float [n, N, D]
  explicit TokenRows(torch::Tensor tokens);

  int64_t size() const { return size_; }
  int64_t width() const { return width_; }
  /// @param ids int64 [m] -> float [m, N, D]
  /// @throws DataError where the file cannot be read
  torch::Tensor rows(const torch::Tensor& ids) const;
  /// Rows `from` to before `to`, or the end.
  torch::Tensor slice(int64_t from, int64_t to) const;

 private:
  friend class TokenCache;
  TokenRows(std::shared_ptr<const int> file, int64_t size, int64_t tokens, int64_t width)
      : file_(std::move(file)), size_(size), tokens_(tokens), width_(width) {}

  torch::Tensor memory_;             ///< undefined: they are in the file
  std::shared_ptr<const int> file_;  ///< closed with the last reader
  int64_t size_ = 0, tokens_ = 0, width_ = 0;
};

/// Mean and deviation of each of the D features over all tokens, float [2, D], read in two passes.
torch::Tensor token_moments(const TokenRows& tokens);

/// Writes tokens to a file as they come. The file has no name once it is complete, so that nothing
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
  /// All of them; nothing may be added after it.
  TokenRows finish();

 private:
  std::string path_;
  int file_ = -1;
  int64_t rows_ = 0, tokens_ = 0, width_ = 0;
};

}  // namespace jepa::eval::probes
