// The callables and classes that a weight file's pickle may name. Internal to io.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace jepa {

/// What a name stands for. Storage classes stand for their element type.
enum class PickleGlobal : uint32_t {
  kOrderedDict,
  kDict,    // dicts with arguments of their own, which are passed over
  kRecord,  // makes something without tensors: called in name only, the result stays empty
  kValue,   // such a thing itself
  kTensor,
  kTensorV2,
  kParameter,
  kSize,
  kStorage
};

struct PickleGlobalName {
  std::string_view module, name;
  PickleGlobal global;
  at::ScalarType type = at::kFloat;
};

/// Place of MODULE.NAME in the list; empty: not on it.
std::optional<uint32_t> find_pickle_global(std::string_view module, std::string_view name);
/// The name at a place that find_pickle_global() gave.
const PickleGlobalName& pickle_global(uint32_t index);

}  // namespace jepa
