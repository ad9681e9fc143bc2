// Cosine k-nearest-neighbour probe: no training, so it reads what distances already say.
#pragma once

#include <eval/probes/candidate.hpp>

#include <cstdint>
#include <vector>

namespace jepa::eval::probes {

/// Nearest neighbours among the training clips by the cosine of features less the training mean
/// (a mean that all share would make every cosine 1). Neighbours vote with exp(cosine /
/// temperature) (Wu et al. 2018); quantities are averaged with those weights. One candidate for
/// each k; a k above the number of training clips uses all of them.
std::vector<Candidate> fit_knn(const LabelledFeatures& train,
                               const std::vector<int64_t>& neighbours = {1, 5, 10, 20, 50},
                               double temperature = 0.07);

}  // namespace jepa::eval::probes
