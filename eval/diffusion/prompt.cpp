#include <eval/diffusion/prompt.hpp>
#include <jepa/data/creatures.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <sstream>

namespace jepa::eval::diffusion {
namespace {

// Speeds of generated clips lie between 0.4 and 1.2 px a frame.
constexpr double kSlowBelow = 0.67;
constexpr double kFastAbove = 0.93;

}  // namespace

PromptVocabulary::PromptVocabulary(const std::string& kind) : kind_(kind) {
  if (kind == "digits") {
    words_ = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
  } else if (kind == "shapes") {
    words_ = {"disc", "square", "triangle", "cross", "ring"};
  } else if (kind == "creatures") {
    words_ = {"insect", "spider"};
    first_ = {0, size()};
    for (const auto& colour : creature_colours()) words_.push_back(colour);
    first_.push_back(size());
    for (const char* word : {"short", "long"}) words_.emplace_back(word);
    first_.push_back(size());
    return;
  } else {
    throw ConfigError("prompt vocabulary " + kind + " is not one of digits, shapes, creatures");
  }
  first_ = {0, size()};
  // In the order of the column `direction`: steps of 45 degrees, 0 right, 2 down.
  for (const char* word :
       {"right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right"}) {
    words_.emplace_back(word);
  }
  first_.push_back(size());
  for (const char* word : {"slow", "medium", "fast"}) words_.emplace_back(word);
  first_.push_back(size());
}

torch::Tensor PromptVocabulary::encode(const std::string& prompt) const {
  torch::Tensor ids = torch::zeros({kSlots}, torch::kInt64);
  std::istringstream stream(prompt);
  for (std::string word; stream >> word;) {
    const auto found = std::find(words_.begin(), words_.end(), word);
    if (found == words_.end()) {
      std::string known;
      for (const auto& w : words_) known += (known.empty() ? "" : ", ") + w;
      throw ConfigError("prompt word " + word + " is not one of " + known);
    }
    const int64_t index = found - words_.begin();
    int64_t slot = 0;
    while (index >= first_[static_cast<size_t>(slot) + 1]) ++slot;
    if (ids[slot].item<int64_t>() != 0) {
      throw ConfigError("prompt \"" + prompt + "\": " + word + " gives a second time what " +
                        words_[static_cast<size_t>(ids[slot].item<int64_t>() - 1)] + " has given");
    }
    ids[slot] = index + 1;
  }
  return ids;
}

std::string PromptVocabulary::decode(const torch::Tensor& ids) const {
  std::string prompt;
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    const int64_t id = ids[slot].item<int64_t>();
    if (id > 0) prompt += (prompt.empty() ? "" : " ") + words_[static_cast<size_t>(id - 1)];
  }
  return prompt;
}

torch::Tensor PromptVocabulary::of_source(const ClipSource& source) const {
  if (kind_ == "creatures") {
    const auto is_long = (source.column("leg_length") > kLongLegs).to(torch::kInt64);
    return torch::stack({source.column("class") + 1 + first_[0],
                         source.column("colour") + 1 + first_[1], is_long + 1 + first_[2]},
                        1);
  }
  const auto what = source.column(kind_ == "digits" ? "digit" : "shape");
  const auto direction = source.column("direction");
  const auto speed = torch::norm(source.column("velocity"), 2, 1);
  const auto pace =
      (speed >= kSlowBelow).to(torch::kInt64) + (speed > kFastAbove).to(torch::kInt64);
  return torch::stack({what + 1 + first_[0], direction + 1 + first_[1], pace + 1 + first_[2]}, 1);
}

int64_t PromptVocabulary::kind_of(const torch::Tensor& ids) const {
  return ids[0].item<int64_t>() - 1;
}

int64_t PromptVocabulary::direction_of(const torch::Tensor& ids) const {
  const int64_t id = ids[1].item<int64_t>();
  return id == 0 || kind_ == "creatures" ? -1 : id - 1 - first_[1];
}

}  // namespace jepa::eval::diffusion
