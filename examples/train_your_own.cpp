// A training loop of one's own: what `pretrain` does, in the open.
//   train_your_own [RECIPE.ini [STEPS]]
#include <eval/training/recipe.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/io/weights.hpp>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  using namespace jepa;
  const int64_t steps = argc > 2 ? std::atoll(argv[2]) : 100;
  const auto digits = std::make_shared<GeneratedSource>(GeneratedOptions{.kind = "digits"}, 0);
  ClipLoader loader(digits, {.batch = 64}, /*seed=*/0);

  auto recipe =
      eval::training::read_recipe(argc > 1 ? argv[1] : "examples/configs/plain_digits.ini");
  recipe = recipe.fitted({1, 1, 8, 32, 32});  // [B, C, T, H, W]
  recipe.optimisation.total_steps = steps;
  Trainer trainer = recipe.make_trainer(/*seed=*/0, torch::kCPU, torch::kFloat32);
  const MaskSamplers samplers = recipe.samplers();

  while (trainer.steps_done() < steps) {
    const ClipBatch batch = loader.next();
    for (const MicroBatch& part : micro_batches(recipe.optimisation, batch.size())) {
      const ClipBatch clips = batch.rows(part.start, part.count);
      trainer.accumulate(clips, trainer.draw_masks(samplers, clips), part.share);
    }
    trainer.reduce();                             // the mean over processes: here there is one
    const StepMetrics metrics = trainer.apply();  // clips, checks, moves weights and target
    if (trainer.steps_done() % 10 == 0) {
      std::printf("step %lld  loss %.4f\n", static_cast<long long>(trainer.steps_done()),
                  metrics.at("loss"));
    }
  }
  write_safetensors("encoder.safetensors", state_dict(*trainer.encoder()));
}
