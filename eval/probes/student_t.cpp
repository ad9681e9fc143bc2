// Apart, since these headers are slow to compile.
#include <eval/probes/metrics.hpp>

#include <boost/math/distributions/students_t.hpp>

namespace jepa::eval::probes {

double student_t_quantile(double freedom, double probability) {
  TORCH_CHECK(freedom > 0 && probability > 0 && probability < 1, "Student's t: ", freedom,
              " degrees of freedom, probability ", probability);
  return boost::math::quantile(boost::math::students_t(freedom), probability);
}

}  // namespace jepa::eval::probes
