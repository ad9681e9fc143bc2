#include <jepa/io/pickle_globals.hpp>

#include <iterator>

namespace jepa {
namespace {

constexpr PickleGlobalName kPickleNames[] = {
    {"collections", "OrderedDict", PickleGlobal::kOrderedDict},
    {"collections", "defaultdict", PickleGlobal::kDict},
    {"collections", "Counter", PickleGlobal::kDict},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", PickleGlobal::kDict},
    {"lightning.pytorch.utilities.parsing", "AttributeDict", PickleGlobal::kDict},
    {"lightning_fabric.utilities.data", "AttributeDict", PickleGlobal::kDict},
    {"lightning.fabric.utilities.data", "AttributeDict", PickleGlobal::kDict},
    {"argparse", "Namespace", PickleGlobal::kRecord},
    {"types", "SimpleNamespace", PickleGlobal::kRecord},
    {"numpy", "dtype", PickleGlobal::kRecord},
    {"numpy", "ndarray", PickleGlobal::kRecord},
    {"numpy.core.multiarray", "scalar", PickleGlobal::kRecord},
    {"numpy._core.multiarray", "scalar", PickleGlobal::kRecord},
    {"numpy.core.multiarray", "_reconstruct", PickleGlobal::kRecord},
    {"numpy._core.multiarray", "_reconstruct", PickleGlobal::kRecord},
    {"numpy.core.numeric", "_frombuffer", PickleGlobal::kRecord},
    {"numpy._core.numeric", "_frombuffer", PickleGlobal::kRecord},
    {"_codecs", "encode", PickleGlobal::kRecord},
    {"collections", "deque", PickleGlobal::kRecord},
    {"decimal", "Decimal", PickleGlobal::kRecord},
    {"fractions", "Fraction", PickleGlobal::kRecord},
    {"uuid", "UUID", PickleGlobal::kRecord},
    {"pathlib", "Path", PickleGlobal::kRecord},
    {"pathlib", "PosixPath", PickleGlobal::kRecord},
    {"pathlib", "WindowsPath", PickleGlobal::kRecord},
    {"pathlib", "PurePosixPath", PickleGlobal::kRecord},
    {"pathlib._local", "PosixPath", PickleGlobal::kRecord},
    {"datetime", "datetime", PickleGlobal::kRecord},
    {"datetime", "timedelta", PickleGlobal::kRecord},
    {"datetime", "date", PickleGlobal::kRecord},
    {"datetime", "timezone", PickleGlobal::kRecord},
    {"torch", "device", PickleGlobal::kRecord},
    {"torch.torch_version", "TorchVersion", PickleGlobal::kRecord},
    {"__builtin__", "set", PickleGlobal::kRecord},
    {"builtins", "set", PickleGlobal::kRecord},
    {"__builtin__", "slice", PickleGlobal::kRecord},
    {"builtins", "slice", PickleGlobal::kRecord},
    {"__builtin__", "frozenset", PickleGlobal::kRecord},
    {"builtins", "frozenset", PickleGlobal::kRecord},
    {"__builtin__", "complex", PickleGlobal::kRecord},
    {"builtins", "complex", PickleGlobal::kRecord},
    {"__builtin__", "bytearray", PickleGlobal::kRecord},
    {"builtins", "bytearray", PickleGlobal::kRecord},
    {"__builtin__", "xrange", PickleGlobal::kRecord},
    {"builtins", "range", PickleGlobal::kRecord},
    {"__builtin__", "list", PickleGlobal::kValue},
    {"builtins", "list", PickleGlobal::kValue},
    {"__builtin__", "dict", PickleGlobal::kValue},
    {"builtins", "dict", PickleGlobal::kValue},
    {"__builtin__", "int", PickleGlobal::kValue},
    {"builtins", "int", PickleGlobal::kValue},
    {"__builtin__", "float", PickleGlobal::kValue},
    {"builtins", "float", PickleGlobal::kValue},
    {"__builtin__", "str", PickleGlobal::kValue},
    {"builtins", "str", PickleGlobal::kValue},
    {"__builtin__", "bool", PickleGlobal::kValue},
    {"builtins", "bool", PickleGlobal::kValue},
    {"torch", "float32", PickleGlobal::kValue},
    {"torch", "float64", PickleGlobal::kValue},
    {"torch", "float16", PickleGlobal::kValue},
    {"torch", "bfloat16", PickleGlobal::kValue},
    {"torch", "int64", PickleGlobal::kValue},
    {"torch", "int32", PickleGlobal::kValue},
    {"torch", "int16", PickleGlobal::kValue},
    {"torch", "int8", PickleGlobal::kValue},
    {"torch", "uint8", PickleGlobal::kValue},
    {"torch", "bool", PickleGlobal::kValue},
    {"torch._utils", "_rebuild_tensor", PickleGlobal::kTensor},
    {"torch._utils", "_rebuild_tensor_v2", PickleGlobal::kTensorV2},
    {"torch._utils", "_rebuild_parameter", PickleGlobal::kParameter},
    {"torch._utils", "_rebuild_parameter_with_state", PickleGlobal::kParameter},
    {"torch", "Size", PickleGlobal::kSize},
    {"torch", "FloatStorage", PickleGlobal::kStorage, at::kFloat},
    {"torch", "DoubleStorage", PickleGlobal::kStorage, at::kDouble},
    {"torch", "HalfStorage", PickleGlobal::kStorage, at::kHalf},
    {"torch", "BFloat16Storage", PickleGlobal::kStorage, at::kBFloat16},
    {"torch", "LongStorage", PickleGlobal::kStorage, at::kLong},
    {"torch", "IntStorage", PickleGlobal::kStorage, at::kInt},
    {"torch", "ShortStorage", PickleGlobal::kStorage, at::kShort},
    {"torch", "CharStorage", PickleGlobal::kStorage, at::kChar},
    {"torch", "ByteStorage", PickleGlobal::kStorage, at::kByte},
    {"torch", "BoolStorage", PickleGlobal::kStorage, at::kBool},
};

}  // namespace

std::optional<uint32_t> find_pickle_global(std::string_view module, std::string_view name) {
  for (uint32_t i = 0; i < std::size(kPickleNames); ++i) {
    if (kPickleNames[i].module == module && kPickleNames[i].name == name) return i;
  }
  return std::nullopt;
}

const PickleGlobalName& pickle_global(uint32_t index) { return kPickleNames[index]; }

}  // namespace jepa
