#include <eval/physics/surprise_grid.hpp>
namespace jepa::eval::physics {
std::vector<SurpriseRow> summarise_surprise(const SurpriseOptions&, const std::vector<SurpriseCell>&) { return {}; }
std::string surprise_json(SurpriseOptions, const std::vector<SurpriseRow>&, double) { return {}; }
std::string surprise_table(const std::vector<SurpriseRow>&) { return {}; }
std::string surprise_section(const SurpriseOptions&, const std::vector<SurpriseRow>&) { return {}; }
}
