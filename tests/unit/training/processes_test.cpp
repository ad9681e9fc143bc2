// Two processes together train as one does on the whole batch.
#include "temporary_folder.hpp"
#include "tiny_recipe.hpp"

#include <encoders/registry.hpp>
#include <eval/training/recipe.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/training/process_group.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <sys/wait.h>
#include <unistd.h>

namespace jepa {
namespace {

constexpr int64_t kBatch = 8;

/// Trains `recipe` for `steps` on its share of each batch; weights and losses.
TensorMap train(eval::training::Recipe recipe, int64_t steps, Processes& processes) {
  const auto source =
      std::make_shared<GeneratedSource>(GeneratedOptions{.clips = 64, .frames = 4, .size = 16}, 1);
  ClipLoader loader(source, {.batch = kBatch, .threads = 0}, 1);
  recipe = recipe.fitted({1, 1, 4, 16, 16});
  recipe.processes = &processes;
  Trainer trainer = recipe.make_trainer(3, torch::kCPU, torch::kFloat32);
  const MaskSamplers samplers = recipe.samplers();
  std::vector<double> losses;
  while (trainer.steps_done() < steps) {
    const ClipBatch batch = loader.next();
    const auto parts = micro_batches(recipe.optimisation, batch.size());
    for (const MicroBatch& part : parts) {
      const int64_t own = part.count / processes.count();
      const ClipBatch clips = batch.rows(part.start + processes.rank() * own, own);
      if (&part == &parts.back()) trainer.reduce_with_next();
      trainer.accumulate(clips, trainer.draw_masks(samplers, clips), part.share);
    }
    trainer.reduce();
    losses.push_back(trainer.apply().at("loss"));
  }
  TensorMap all{{"losses", torch::tensor(losses, torch::kFloat64)}};
  if (recipe.optimisation.shard_moments) {
    const auto tensors = trainer.tensors();
    for (const auto& [key, value] : tensors.at("optimizer")) all["moments." + key] = value.clone();
  }
  for (const auto& [name, module] : trainer.trained_modules()) {
    for (const auto& [key, value] : state_dict(*module)) all[name + "." + key] = value.clone();
  }
  return all;
}

/// The same by two processes, which this one starts; rank 0's.
TensorMap train_by_two(const eval::training::Recipe& recipe, int64_t steps,
                       const TemporaryFolder& folder) {
  const int64_t port = free_port();
  std::vector<pid_t> children;
  for (int64_t rank = 0; rank < 2; ++rank) {
    const pid_t child = fork();
    if (child != 0) {
      children.push_back(child);
      continue;
    }
    int code = 0;
    try {
      torch::set_num_threads(1);
      const auto processes =
          join_processes({.rank = rank, .count = 2, .port = port, .timeout = 60});
      const TensorMap all = train(recipe, steps, *processes);
      if (rank == 0) write_safetensors(folder.file("two.safetensors"), all);
      processes->barrier();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(rank), error.what());
      code = 1;
    }
    _exit(code);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  return read_safetensors(folder.file("two.safetensors")).tensors;
}

class TwoProcesses : public testing::TestWithParam<std::string> {};

TEST_P(TwoProcesses, TrainAsOne) {
  if (!has_process_groups()) GTEST_SKIP() << "this LibTorch was built without gloo";
  eval::training::Recipe recipe = tiny_recipe();
  recipe.optimisation.momentum = 0.9;
  const std::string kind = GetParam();
  if (kind == "accumulate") recipe.optimisation.accumulate = 2;
  if (kind == "vicreg" || kind == "sigreg") recipe.objective.regulariser.kind = kind;
  if (kind == "buckets") recipe.optimisation.bucket_mb = 0.001;
  if (kind == "sharded") recipe.optimisation.shard_moments = true;
  if (kind == "content") recipe.objective.target_norm = "content";
  if (kind == "agreement") {
    recipe.objective.agreement.weight = 0.1;
    recipe.objective.agreement.rotation = 10;
    recipe.objective.agreement.shift = 2;
    recipe.objective.agreement.width = 16;
  }
  torch::set_num_threads(1);  // forked children have no other threads
  const TemporaryFolder folder;
  const TensorMap two = train_by_two(recipe, 10, folder);
  Processes alone;
  const TensorMap one = train(recipe, 10, alone);
  ASSERT_EQ(one.size(), two.size());
  double largest = 0;
  for (const auto& [name, value] : one) {
    if (name.starts_with("moments.")) continue;
    largest = std::max(largest, value.abs().max().item<double>());
  }
  for (const auto& [name, value] : one) {
    // Their gradient is truly zero (a shift before batch norm, or common to both views): Adam makes
    // steps of what is left of rounding.
    if (name == "projector.hidden.bias" || name == "projector.out.bias") continue;
    EXPECT_LT((two.at(name) - value).abs().max().item<double>(), 1e-6 * largest) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, TwoProcesses,
                         testing::Values("plain", "accumulate", "vicreg", "sigreg", "content",
                                         "agreement", "buckets", "sharded"),
                         [](const auto& info) { return info.param; });

TEST(Processes, TheFirstOnesNumberIsEverybodys) {
  class OfRank1 : public Processes {
   public:
    int64_t rank() const override { return 1; }
    int64_t count() const override { return 2; }
    torch::Tensor gather(const torch::Tensor& rows) override {
      return torch::cat({torch::full({1}, 7, torch::kInt64), rows});
    }
  };
  OfRank1 second;
  EXPECT_EQ(number_of_first(3, second), 7);
  Processes alone;
  EXPECT_EQ(number_of_first(3, alone), 3);
}

/// One of several, whose collectives give back its own rows.
class OneOf : public Processes {
 public:
  OneOf(int64_t rank, int64_t count) : rank_(rank), count_(count) {}
  int64_t rank() const override { return rank_; }
  int64_t count() const override { return count_; }
  torch::Tensor gather(const torch::Tensor& rows) override {
    return torch::cat(std::vector<torch::Tensor>(static_cast<size_t>(count_), rows));
  }

 private:
  int64_t rank_, count_;
};

/// Counts what it is asked to average.
class Counting : public OneOf {
 public:
  Counting() : OneOf(0, 2) {}
  void begin_average(const torch::Tensor& tensor) override { begun.push_back(tensor.numel()); }
  std::vector<int64_t> begun;
};

TEST(GradientBuckets, BeginWhileTheBackwardPassGoesOn) {
  Counting processes;
  OptimisationOptions options;
  options.bucket_mb = 64.0 * 4 / (1 << 20);  // 64 numbers
  torch::nn::Linear first(8, 8), second(8, 8);
  torch::nn::Sequential model(first, second);
  AdamW optimizer({{"m", model.ptr()}}, options, &processes);
  optimizer.zero_gradients();
  const auto step = [&] { return second->forward(first->forward(torch::ones({1, 8}))).sum(); };
  step().backward();
  EXPECT_TRUE(processes.begun.empty());  // nobody said that it is the last

  optimizer.begin_reduce(processes);
  size_t before_first = 0;  // begun when the first layer's gradient comes
  first->weight.register_hook([&](const torch::Tensor&) { before_first = processes.begun.size(); });
  step().backward();
  EXPECT_EQ(before_first, 1U);
  MetricSums sums;
  sums.add("loss", torch::zeros({}));
  optimizer.reduce(processes, sums);
  EXPECT_EQ(optimizer.buckets().early(), 2);
  int64_t numbers = 0;
  for (const int64_t count : processes.begun) numbers += count;
  EXPECT_EQ(numbers, 2 * (64 + 16) + 1);  // the metrics too

  // What comes once its bucket is on its way would be lost.
  optimizer.begin_reduce(processes);
  step().backward();
  EXPECT_THROW(step().backward(), Error);
}

TEST(GatherTexts, KeepsTheirOrderAndLength) {
  OneOf processes(0, 2);
  EXPECT_EQ(gather_texts("a\nb", processes), (std::vector<std::string>{"a\nb", "a\nb"}));
  EXPECT_EQ(gather_texts("", processes), (std::vector<std::string>{"", ""}));
}

TEST(ShardedMoments, TakeTheirShareOfTheMemory) {
  const auto count = [](bool shard, int64_t rank) {
    OneOf processes(rank, 4);
    OptimisationOptions options;
    options.shard_moments = shard;
    const AdamW optimizer({{"m", torch::nn::Linear(100, 1000).ptr()}}, options, &processes);
    return optimizer.moment_count();
  };
  EXPECT_EQ(count(false, 0), 2 * (100 * 1000 + 1008));
  for (int64_t rank = 0; rank < 4; ++rank) {
    EXPECT_LE(count(true, rank), count(false, 0) / 4 + 2 * 16);
  }
}

TEST(ShareRows, EachComputesItsPart) {
  const auto rows = torch::arange(5).unsqueeze(1);
  std::vector<int64_t> sizes;
  for (int64_t rank = 0; rank < 3; ++rank) {
    OneOf processes(rank, 3);
    share_rows(rows, processes, [&](const torch::Tensor& own) {
      sizes.push_back(own.size(0));
      EXPECT_EQ(own[0].item<int64_t>(), 2 * rank);
      return own;
    });
  }
  EXPECT_EQ(sizes, (std::vector<int64_t>{2, 2, 2}));
}

TEST(ProcessesFromEnvironment, KnowTheLaunchers) {
  const auto set = [](const char* name, const char* value) { setenv(name, value, 1); };
  set("SLURM_PROCID", "3");
  set("SLURM_NTASKS", "4");
  EXPECT_FALSE(processes_from_environment());  // a batch script, which is alone
  set("SLURM_STEP_NUM_TASKS", "4");
  set("SLURM_LOCALID", "1");
  set("MASTER_PORT", "1234");
  set("SLURM_STEP_NUM_NODES", "2");
  EXPECT_THROW(processes_from_environment(), ConfigError);  // which machine is rank 0's?
  set("MASTER_ADDR", "node0");
  auto found = processes_from_environment();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->address, "node0");
  EXPECT_EQ(found->rank, 3);
  EXPECT_EQ(found->count, 4);
  EXPECT_EQ(found->local_rank, 1);
  EXPECT_EQ(found->port, 1234);
  set("RANK", "x");
  set("WORLD_SIZE", "2");
  EXPECT_THROW(processes_from_environment(), ConfigError);
  set("RANK", "2");
  EXPECT_THROW(processes_from_environment(), ConfigError);
  set("RANK", "0");
  set("WORLD_SIZE", "1");
  EXPECT_EQ(processes_from_environment()->count, 1);
  for (const char* name :
       {"RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NUM_NODES", "SLURM_LOCALID", "MASTER_PORT", "MASTER_ADDR"}) {
    unsetenv(name);
  }
  EXPECT_FALSE(processes_from_environment());
}

TEST(JoinProcesses, ThatNobodyAnswersIsOneLine) {
  if (!has_process_groups()) GTEST_SKIP() << "this LibTorch was built without gloo";
  try {
    join_processes({.rank = 1, .count = 2, .port = free_port(), .timeout = 1});
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("rank 1 of 2"), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace jepa
