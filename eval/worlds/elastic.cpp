#include <eval/worlds/elastic.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>

namespace jepa::eval::worlds {
namespace {

using Polynomial = std::array<double, 5>;

constexpr int64_t kMostCollisions = 100000;
constexpr double kTouching = 1e-9;  // px: nearer than this is in contact
constexpr int kHalvings = 200;      // more than a double's bits: bisection ends by itself

double value(const Polynomial& p, double t) {
  return p[0] + t * (p[1] + t * (p[2] + t * (p[3] + t * p[4])));
}

Polynomial derivative(const Polynomial& p) { return {p[1], 2 * p[2], 3 * p[3], 4 * p[4], 0}; }

// The zero between a and b, where the signs differ.
double bisect(const Polynomial& p, double a, double b) {
  const bool rising = value(p, a) < value(p, b);
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (a + b);
    if (middle <= a || middle >= b) break;
    const bool low = (value(p, middle) < 0) == rising;
    (low ? a : b) = middle;
  }
  return 0.5 * (a + b);
}

// All zeros in (0, limit) at which the sign changes, ascending: between the zeros of the derivative
// a polynomial is monotone.
std::vector<double> zeros(const Polynomial& p, double limit, int degree) {
  while (degree > 0 && p[degree] == 0) --degree;
  if (degree == 0) return {};
  std::vector<double> ends = {0};
  for (const double t : zeros(derivative(p), limit, degree - 1)) ends.push_back(t);
  ends.push_back(limit);
  std::vector<double> found;
  for (size_t i = 0; i + 1 < ends.size(); ++i) {
    const double a = value(p, ends[i]), b = value(p, ends[i + 1]);
    if ((a < 0) != (b < 0)) found.push_back(bisect(p, ends[i], ends[i + 1]));
  }
  return found;
}

// The square of the distance between two points that fly parabolas, less a square.
Polynomial gap(double x, double y, double vx, double vy, double pull, double reach) {
  // dx = x + vx t, dy = y + vy t + pull/2 t^2
  const double half = pull / 2;
  return {x * x + y * y - reach * reach, 2 * (x * vx + y * vy), vx * vx + vy * vy + 2 * y * half,
          2 * vy * half, half * half};
}

struct Contact {
  double time = -1;
  size_t first = 0;
  int64_t second = -1;
  double nx = 0, ny = 0;  // from what is hit to the first disc; of discs filled in on arrival
  bool point = false;     // a shelf's end, whose normal is known on arrival too
  double px = 0, py = 0;
};

class Flight {
 public:
  Flight(std::vector<Disc>& discs, const Box& box) : discs_(discs), box_(box) {}

  Contact next(double limit) {
    best_ = {};
    limit_ = limit;
    for (size_t i = 0; i < discs_.size(); ++i) {
      walls(i);
      for (const Shelf& shelf : box_.shelves) against(i, shelf);
      for (size_t j = i + 1; j < discs_.size(); ++j) pair(i, j);
    }
    return best_;
  }

  void fly(double t) {
    for (Disc& d : discs_) {
      d.x += d.vx * t;
      d.y += d.vy * t + 0.5 * box_.gravity * t * t;
      d.vy += box_.gravity * t;
    }
  }

  void collide(Contact contact) {
    Disc& a = discs_[contact.first];
    if (contact.second >= 0 || contact.point) {
      const double x = contact.point ? contact.px : discs_[contact.second].x;
      const double y = contact.point ? contact.py : discs_[contact.second].y;
      const double length = std::hypot(a.x - x, a.y - y);
      contact.nx = (a.x - x) / length;
      contact.ny = (a.y - y) / length;
    }
    double vx = a.vx, vy = a.vy, share = 1;
    if (contact.second >= 0) {
      const Disc& b = discs_[contact.second];
      vx -= b.vx;
      vy -= b.vy;
      share = b.mass / (a.mass + b.mass);
    }
    const double along = vx * contact.nx + vy * contact.ny;
    double given_back = box_.restitution;
    if (given_back < 1 && box_.slowest > 0) {
      given_back = std::max(given_back, std::min(1.0, box_.slowest / std::abs(along)));
    }
    const double change = -(1 + given_back) * along;
    a.vx += share * change * contact.nx;
    a.vy += share * change * contact.ny;
    if (contact.second < 0) return;
    Disc& b = discs_[contact.second];
    b.vx -= (1 - share) * change * contact.nx;
    b.vy -= (1 - share) * change * contact.ny;
  }

 private:
  void offer(double time, Contact contact) {
    if (time < 0 || (best_.time >= 0 && time >= best_.time)) return;
    contact.time = time;
    best_ = contact;
    limit_ = time;
  }

  void walls(size_t i) {
    const Disc& d = discs_[i];
    const double g = box_.gravity / 2, r = d.radius;
    offer(falls_through_zero({d.x - r, d.vx, 0, 0, 0}, limit_), {.first = i, .nx = 1});
    offer(falls_through_zero({box_.width - r - d.x, -d.vx, 0, 0, 0}, limit_),
          {.first = i, .nx = -1});
    offer(falls_through_zero({d.y - r, d.vy, g, 0, 0}, limit_), {.first = i, .ny = 1});
    offer(falls_through_zero({box_.height - r - d.y, -d.vy, -g, 0, 0}, limit_),
          {.first = i, .ny = -1});
  }

  void against(size_t i, const Shelf& shelf) {
    const Disc& d = discs_[i];
    // Either face, and every time it is met: the disc may pass beside the shelf and come back.
    for (const double side : {-1.0, 1.0}) {
      const Polynomial p = {side * (d.y - shelf.y) - d.radius, side * d.vy, side * box_.gravity / 2,
                            0, 0};
      std::vector<double> times = zeros(p, limit_, 2);
      if (std::abs(p[0]) <= kTouching) times.insert(times.begin(), 0);
      for (const double time : times) {
        const double x = d.x + d.vx * time;
        if (value(derivative(p), time) < 0 && x >= shelf.left && x <= shelf.right) {
          offer(time, {.first = i, .ny = side});
          break;
        }
      }
    }
    for (const double end : {shelf.left, shelf.right}) {
      offer(falls_through_zero(gap(d.x - end, d.y - shelf.y, d.vx, d.vy, box_.gravity, d.radius),
                               limit_),
            {.first = i, .point = true, .px = end, .py = shelf.y});
    }
  }

  void pair(size_t i, size_t j) {
    const Disc &a = discs_[i], &b = discs_[j];  // gravity pulls both alike
    offer(falls_through_zero(
              gap(a.x - b.x, a.y - b.y, a.vx - b.vx, a.vy - b.vy, 0, a.radius + b.radius), limit_),
          {.first = i, .second = static_cast<int64_t>(j)});
  }

  std::vector<Disc>& discs_;
  const Box& box_;
  Contact best_;
  double limit_ = 0;
};

}  // namespace

double falls_through_zero(const std::array<double, 5>& p, double limit) {
  if (p[0] <= kTouching && p[1] < 0) return 0;
  for (const double t : zeros(p, limit, 4)) {
    if (value(derivative(p), t) < 0) return t;
  }
  return -1;
}

int64_t advance_discs(std::vector<Disc>& discs, const Box& box, double duration,
                      const std::function<void(const Collision&, const std::vector<Disc>&)>& seen) {
  Flight flight(discs, box);
  double time = 0;
  for (int64_t collisions = 0;; ++collisions) {
    if (collisions > kMostCollisions) {
      throw DataError("elastic discs: more than 100000 collisions in one step");
    }
    const Contact contact = flight.next(duration - time);
    if (contact.time < 0) {
      flight.fly(duration - time);
      return collisions;
    }
    flight.fly(contact.time);
    flight.collide(contact);
    time += contact.time;
    if (seen) {
      seen({time, static_cast<int64_t>(contact.first), contact.second}, discs);
    }
  }
}

double energy(const std::vector<Disc>& discs, const Box& box) {
  double sum = 0;
  for (const Disc& d : discs) {
    sum += d.mass * (0.5 * (d.vx * d.vx + d.vy * d.vy) + box.gravity * (box.height - d.y));
  }
  return sum;
}

std::array<double, 2> momentum(const std::vector<Disc>& discs) {
  std::array<double, 2> sum = {0, 0};
  for (const Disc& d : discs) {
    sum[0] += d.mass * d.vx;
    sum[1] += d.mass * d.vy;
  }
  return sum;
}

}  // namespace jepa::eval::worlds
