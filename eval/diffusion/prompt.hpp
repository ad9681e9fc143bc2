// Prompts: a small vocabulary of attribute words, such as "three left fast". No text model.
#pragma once

#include <jepa/data/clip_source.hpp>

#include <torch/types.h>

#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// The words of a prompt, one slot an attribute: what it is, where it goes, how fast; of creatures
/// their kind, colour and length of legs.
class PromptVocabulary {
 public:
  /// Words for generated clips: `digits`, `shapes` or `creatures`. @throws ConfigError for another
  /// kind
  explicit PromptVocabulary(const std::string& kind);

  /// Attributes a prompt has.
  static constexpr int64_t kSlots = 3;

  const std::string& kind() const { return kind_; }
  /// Distinct words; ids go from 1, 0 stands for no word.
  int64_t size() const { return static_cast<int64_t>(words_.size()); }
  const std::vector<std::string>& words() const { return words_; }

  /// Word ids int64 [kSlots] of a prompt; attributes may be left out and stand in any order.
  /// @throws ConfigError naming a word that is unknown or an attribute given twice
  torch::Tensor encode(const std::string& prompt) const;
  /// The prompt of one row of ids.
  std::string decode(const torch::Tensor& ids) const;
  /// The words for each clip by the columns of a source: int64 [clips, kSlots].
  /// @throws DataError where the source lacks a column
  torch::Tensor of_source(const ClipSource& source) const;
  /// Class and direction that a row of ids asks for; -1: none. Prompts of creatures have no
  /// direction.
  int64_t kind_of(const torch::Tensor& ids) const;
  int64_t direction_of(const torch::Tensor& ids) const;

 private:
  std::string kind_;
  std::vector<std::string> words_;  ///< of id i + 1
  std::vector<int64_t> first_;      ///< index of each slot's first word; one more at the end
};

}  // namespace jepa::eval::diffusion
