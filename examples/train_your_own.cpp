// A training loop of one's own: what `pretrain` does, in the open.
#include <eval/training/recipe.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/printable.hpp>

#include <charconv>
#include <cstdio>
#include <string>

using namespace jepa;

void train(const std::string& file, int64_t steps) {
  const auto digits = std::make_shared<GeneratedSource>(GeneratedOptions{.kind = "digits"}, 0);
  ClipLoader loader(digits, {.batch = 64}, /*seed=*/0);

  auto recipe = eval::training::read_recipe(file).fitted({1, 1, 8, 32, 32});  // [B, C, T, H, W]
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
    const auto done = static_cast<long long>(trainer.steps_done());
    if (done % 10 == 0 || done == steps) {
      std::printf("step %lld  loss %.4f\n", done, metrics.at("loss"));
    }
  }
  write_safetensors("encoder.safetensors", state_dict(*trainer.encoder()));
}

int main(int argc, char** argv) {
  const std::string file = argc > 1 ? argv[1] : "examples/configs/plain_digits.ini";
  const std::string number = argc > 2 ? argv[2] : "100";
  const std::string usage = "usage: train_your_own [RECIPE.ini [STEPS]]";
  if (file == "--help") {
    std::printf("%s\nTrains on moving digits and writes encoder.safetensors.\n", usage.c_str());
    return 0;
  }
  try {
    if (argc > 3 || file.starts_with("-")) throw ConfigError(usage);
    int64_t steps = 0;
    const char* end = number.data() + number.size();
    if (std::from_chars(number.data(), end, steps).ptr != end || steps < 1) {
      throw ConfigError("STEPS '" + number + "': a whole number from 1 on is needed");
    }
    train(file, steps);
    return 0;
  } catch (const ConfigError& error) {
    std::fprintf(stderr, "error: %s\nTry 'train_your_own --help'.\n",
                 printable(error.what()).c_str());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", printable(error.what()).c_str());
  }
  return 1;
}
