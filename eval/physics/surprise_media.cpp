#include <eval/physics/surprise_grid.hpp>
#include <eval/report/image.hpp>
#include <torch/types.h>
namespace jepa::eval::physics {
std::string surprise_media(const SurpriseOptions& options, const std::vector<SurpriseCell>&, const comparison::ComparisonHooks&) {
  std::vector<torch::Tensor> rows;
  for (const auto& rule : rule_names()) for (int k = 0; k < 2; ++k) {
    const Scene s = make_scene(rule, options.world, 1, "test", k);
    for (const auto* f : {&s.lawful[0], &s.broken[0], &s.lawful[1], &s.broken[1], &s.changed[0]})
      rows.push_back(report::clip_frames(f->clip()));
  }
  report::write_png(options.run + "/all.png", report::upscale(report::frame_grid(torch::cat(rows), options.world.frames), 1));
  return {};
}
}
