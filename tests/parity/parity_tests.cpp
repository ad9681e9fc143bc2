// Runs every fixture of the folder in JEPA_PARITY_FIXTURES (default: the project's own) against the
// library. One line a case; fails on an unknown case, on none, and where anything was not compared.
#include "case.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>

namespace {

using parity::Case;

const std::map<std::string, void (*)(Case&)>& kinds() {
  static const std::map<std::string, void (*)(Case&)> table = {
      {"sincos_2d", parity::sincos_2d},
      {"sincos_3d", parity::sincos_3d},
      {"rope_axis", parity::rope_axis},
      {"ijepa_masks", parity::ijepa_masks},
      {"vjepa1_masks", parity::vjepa_masks},
      {"vjepa2_masks", parity::vjepa_masks},
      {"vjepa2_masks_full_complement", parity::vjepa_masks},
      {"ijepa_step", parity::ijepa_step},
      {"vjepa1_train", parity::training},
      {"vjepa2_train", parity::training},
      {"vjepa2_nonsquare", parity::vjepa2_nonsquare},
      {"vjepa21_step", parity::vjepa21_step},
      {"vjepa2_ac", parity::vjepa2_ac},
      {"vjepa1_attentive_probe", parity::attentive_probe},
      {"vjepa2_attentive_probe", parity::attentive_probe},
      {"checkpoint_expected", parity::checkpoint_expected},
      {"hf_vjepa2_expected", parity::hugging_face_expected},
      {"ebjepa_two_rooms", parity::ebjepa_two_rooms},
      {"swm_two_rooms", parity::swm_two_rooms},
      {"ebjepa_ac", parity::ebjepa_ac},
      {"ebjepa_planner", parity::ebjepa_planner},
      {"lewm_step", parity::lewm_step},
      {"sigreg", parity::sigreg},
      {"ha_mdn", parity::ha_mdn},
      {"swm_dataset", parity::swm_dataset},
  };
  return table;
}

bool run(const std::string& path) {
  try {
    Case test(path);
    const auto found = kinds().find(test.kind());
    if (found == kinds().end()) {
      test.fail("unknown case '" + test.kind() + "'");
    } else {
      try {
        found->second(test);
      } catch (const std::exception& error) {
        const std::string text = error.what();
        test.fail("stopped: " + text.substr(0, text.find('\n')));
      }
    }
    std::cout << test.report() << std::flush;
    return test.passed();
  } catch (const std::exception& error) {
    std::cout << "FAILED " << path << ": " << error.what() << std::endl;
    return false;
  }
}

}  // namespace

int main() {
  const char* given = std::getenv("JEPA_PARITY_FIXTURES");
  const std::string folder = given != nullptr ? given : JEPA_TEST_FIXTURES;
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  int64_t failed = 0;
  for (const auto& path : paths) failed += run(path) ? 0 : 1;
  std::cout << paths.size() - failed << " of " << paths.size() << " cases passed in " << folder
            << std::endl;
  if (paths.empty()) std::cout << "no case found" << std::endl;
  return failed == 0 && !paths.empty() ? 0 : 1;
}
