#include <jepa/errors.hpp>
#include <jepa/training/processes.hpp>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <sstream>

namespace jepa {
namespace {

class GatherRows : public torch::autograd::Function<GatherRows> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& rows,
                               int64_t address) {
    auto& processes = *reinterpret_cast<Processes*>(address);
    context->saved_data["first"] = processes.rank() * rows.size(0);
    context->saved_data["rows"] = rows.size(0);
    context->saved_data["processes"] = processes.count();
    return processes.gather(rows);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto number = [&](const char* name) { return context->saved_data[name].toInt(); };
    // All processes have this very gradient: its sum over them is so many times one. The mean of
    // the weights' gradients divides by as many.
    const auto own = gradients[0].narrow(0, number("first"), number("rows"));
    return {own * static_cast<double>(number("processes")), torch::Tensor()};
  }
};

torch::Tensor averaged(const torch::Tensor& value, Processes& processes) {
  const torch::Tensor mean = value.detach().clone(at::MemoryFormat::Contiguous);
  processes.begin_average(mean);
  processes.finish_averages();
  return mean;
}

class MeanOverProcesses : public torch::autograd::Function<MeanOverProcesses> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& value, int64_t address) {
    context->saved_data["processes"] = address;
    return averaged(value, *reinterpret_cast<Processes*>(address));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto* processes = reinterpret_cast<Processes*>(context->saved_data["processes"].toInt());
    return {averaged(gradients[0], *processes), torch::Tensor()};
  }
};

}  // namespace

Processes& process_alone() {
  static Processes alone;
  return alone;
}

torch::Tensor gather_rows(const torch::Tensor& rows, Processes& processes) {
  if (processes.count() == 1) return rows;
  return GatherRows::apply(rows, reinterpret_cast<int64_t>(&processes));
}

torch::Tensor mean_over_processes(const torch::Tensor& value, Processes& processes) {
  if (processes.count() == 1) return value;
  return MeanOverProcesses::apply(value, reinterpret_cast<int64_t>(&processes));
}

std::vector<std::string> gather_texts(const std::string& own, Processes& processes) {
  if (processes.count() == 1) return {own};
  const auto size = static_cast<int64_t>(own.size());
  const torch::Tensor sizes = processes.gather(torch::full({1}, size, torch::kInt64));
  const int64_t longest = std::max<int64_t>(1, sizes.max().item<int64_t>());
  torch::Tensor letters = torch::zeros({1, longest}, torch::kUInt8);
  std::copy(own.begin(), own.end(), letters.mutable_data_ptr<uint8_t>());
  const torch::Tensor all = processes.gather(letters);
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < processes.count(); ++rank) {
    const auto* first = all.const_data_ptr<uint8_t>() + rank * longest;
    texts.emplace_back(first, first + sizes[rank].item<int64_t>());
  }
  return texts;
}

int64_t number_of_first(int64_t number, Processes& processes) {
  if (processes.count() == 1) return number;
  return processes.gather(torch::full({1}, number, torch::kInt64))[0].item<int64_t>();
}

torch::Tensor share_rows(const torch::Tensor& rows, Processes& processes,
                         const std::function<torch::Tensor(const torch::Tensor&)>& function) {
  if (processes.count() == 1) return function(rows);
  const int64_t count = rows.size(0);
  const int64_t own = (count + processes.count() - 1) / processes.count();
  const torch::Tensor ids = torch::arange(processes.rank() * own, (processes.rank() + 1) * own)
                                .clamp_max(count - 1)
                                .to(rows.device());
  return processes.gather(function(rows.index_select(0, ids))).narrow(0, 0, count);
}

RowRange own_rows(RowRange shared, const Processes& processes) {
  const int64_t count = shared.count / processes.count();
  if (count * processes.count() != shared.count) {
    throw ConfigError("a micro-batch of " + std::to_string(shared.count) +
                      " clips does not divide over " + std::to_string(processes.count()) +
                      " processes");
  }
  return {shared.start + processes.rank() * count, count};
}

void require_same(const std::string& text, const std::string& what, Processes& processes) {
  if (processes.count() == 1) return;
  const std::vector<std::string> all = gather_texts(text, processes);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    std::istringstream first(all[0]), other(all[rank]);
    std::string expected, found;
    do {
      expected.clear();
      found.clear();
      std::getline(first, expected);
      std::getline(other, found);
    } while (expected == found);
    const std::string number = std::to_string(rank);
    throw Error(what + ": those of rank " + number + " are not those of rank 0: '" + found +
                "' and '" + expected + "'");
  }
}

}  // namespace jepa
