// The distance kernel on a CPU: threshold, merge and factor gradients, each in one pass.
//
// An entry is w = (distance - distance + ...) * 0.1, or the distances times trained coefficients.
// Every number of it is rounded once per operation, in the order of snell_layers.distance, so the
// bits are those of the torch path: build this without contraction into fused multiply-adds. A
// distance is its square times one over the root of that, which torch, too, rounds step by step.
//
// Shapes: a, the input side, (heads, dims, padded), a point per column, where `padded` is n rounded
// up to whole blocks, and an odd number of cache lines, so that the rows of a do not fight for the
// same places in the cache; b, the output side, (heads, m, dims); matrices (m, n). Functions work on the rows [from, to), so that threads share a matrix. Vectors are those of GCC
// and Clang, which make them fit any processor.

#include <cmath>
#include <cstdint>
#include <cstring>

constexpr int WIDTH = 2;  // vectors in a block of columns: their distances stay in registers
constexpr int HEADS = 8;  // at most
constexpr int POINTS = 256;  // heads * dims, at most

enum Gate { RELEASED, PAPER, HARD, NONE };

// H heads of K dimensions where they are known when this is compiled; 0 where not.
template <typename T, typename Bits, int H, int K>
struct Kernel {
  typedef T V __attribute__((vector_size(64)));
  typedef Bits M __attribute__((vector_size(64)));
  static constexpr int LANES = 64 / sizeof(T), BLOCK = WIDTH * LANES;
  static constexpr int SOME_HEADS = H ? H : HEADS;

  const T *a, *b, *scales;  // scales: (heads), or null for the frozen +0.1, -0.1, ...
  int64_t heads_, dims_, n, m, padded;

  int64_t heads() const { return H ? H : heads_; }
  int64_t dims() const { return K ? K : dims_; }

  static V load(const T *from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
  }
  static V load(const T *from, int64_t count) {  // zeros beyond the end of a row
    V v = {};
    if (count >= LANES) return load(from);
    for (int l = 0; l < count; ++l) v[l] = from[l];
    return v;
  }
  static void store(T *to, V v) { memcpy(to, &v, sizeof v); }
  static void store(T *to, V v, int64_t count) {
    if (count >= LANES) return store(to, v);
    for (int l = 0; l < count; ++l) to[l] = v[l];
  }
  static V root(V x) {
    for (int l = 0; l < LANES; ++l) x[l] = std::sqrt(x[l]);
    return x;
  }
  static V magnitude(V x) {
    M bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= ~(Bits(1) << (8 * sizeof(T) - 1));
    memcpy(&x, &bits, sizeof bits);
    return x;
  }
  static bool any(M mask) {
    uint64_t part[8], all = 0;
    memcpy(part, &mask, sizeof part);
    for (uint64_t p : part) all |= p;
    return all;
  }

  // The entries of row j in the block of columns from i on, and one over the distances of each head;
  // zero at distance zero, where the subgradient is.
  inline __attribute__((always_inline)) void entries(int64_t j, int64_t i,
                                                     V (*inverses)[WIDTH], V *w) const {
    for (int64_t h = 0; h < heads(); ++h) {
      const T *column = a + h * dims() * padded + i, *point = b + (h * m + j) * dims();
      V q[WIDTH];
      for (int u = 0; u < WIDTH; ++u) {
        const V difference = point[0] - load(column + u * LANES);
        q[u] = difference * difference;
      }
      for (int64_t d = 1; d < dims(); ++d)
        for (int u = 0; u < WIDTH; ++u) {
          const V difference = point[d] - load(column + d * padded + u * LANES);
          q[u] += difference * difference;
        }
      for (int u = 0; u < WIDTH; ++u) {
        const V zero = {}, inverse = q[u] == 0 ? zero : T(1) / root(q[u]);
        const V distance = q[u] * inverse;
        inverses[h][u] = inverse;
        if (scales) w[u] = h ? w[u] + distance * scales[h] : distance * scales[0];
        else w[u] = h == 0 ? distance : h % 2 ? w[u] - distance : w[u] + distance;
      }
    }
    for (int u = 0; u < WIDTH && !scales; ++u) w[u] *= T(0.1);
  }

  // |w| at every stride-th position.
  void sample(int64_t stride, int64_t count, T *out) const {
    V inverses[SOME_HEADS][WIDTH], w[WIDTH];
    for (int64_t s = 0; s < count; ++s) {
      const int64_t j = s * stride / n, i = s * stride % n, lane = i % BLOCK;
      entries(j, i - lane, inverses, w);
      out[s] = std::fabs(w[lane / LANES][lane % LANES]);
    }
  }

  // How many magnitudes are below `low`, and those from `low` to `high`, of which `room` are kept.
  void pick(int64_t from, int64_t to, T low, T high, T *out, int64_t room, int64_t *found) const {
    V inverses[SOME_HEADS][WIDTH], w[WIDTH];
    int64_t below = 0, inside = 0;
    for (int64_t j = from; j < to; ++j) {
      M under = {};
      for (int64_t i = 0; i < n; i += BLOCK) {
        entries(j, i, inverses, w);
        for (int u = 0; u < WIDTH; ++u) {
          const int64_t count = n - i - u * LANES;
          V size = magnitude(w[u]);
          for (int64_t l = count < 0 ? 0 : count; l < LANES; ++l) size[l] = T(INFINITY);
          under -= size < low;
          const M in = (size >= low) & (size <= high);
          if (!any(in)) continue;
          for (int l = 0; l < LANES && l < count; ++l) {
            if (inside < room) out[inside] = size[l];
            inside -= in[l];
          }
        }
      }
      for (int l = 0; l < LANES; ++l) below += under[l];
    }
    found[0] = below;
    found[1] = inside;
  }

  static V value(V w, T tau, int gate) {
    const V size = magnitude(w), zero = {};
    if (gate == RELEASED) return w * (size <= tau ? zero : size);  // a NaN stays one
    if (gate == PAPER) return w * (size <= tau ? zero : size - tau);
    if (gate == HARD) return w * (size <= tau ? zero : zero + 1);
    return w;
  }

  static V slope(V w, T tau, int gate) {
    const V size = magnitude(w), zero = {};
    if (gate == RELEASED) return size <= tau ? zero : size;
    if (gate == PAPER) return size <= tau ? zero : size * 2 - tau;
    if (gate == HARD) return size <= tau ? zero : zero + 1;
    return zero + 1;
  }

  // out = weight + scale * value, or the update alone where weight is null.
  void merge(int64_t from, int64_t to, T tau, T scale, int gate, const T *weight, T *out) const {
    V inverses[SOME_HEADS][WIDTH], w[WIDTH];
    for (int64_t j = from; j < to; ++j)
      for (int64_t i = 0; i < n; i += BLOCK) {
        entries(j, i, inverses, w);
        for (int u = 0; u < WIDTH; ++u) {
          const int64_t at = j * n + i + u * LANES, count = n - i - u * LANES;
          if (count <= 0) break;
          const V v = value(w[u], tau, gate) * scale;  // times one changes nothing
          store(out + at, weight ? load(weight + at, count) + v : v, count);
        }
      }
  }

  // The rows' own grad_b (heads, m, dims) is written; their part of grad_a, laid out like a, and of
  // grad_c (heads) is added to what is there.
  void fold(int64_t from, int64_t to, T tau, T scale, int gate, const T *grad, T *grad_a,
            T *grad_b, T *grad_c) const {
    V inverses[SOME_HEADS][WIDTH], w[WIDTH], g[WIDTH], pull[WIDTH], sums[SOME_HEADS] = {};
    V row[H && K ? H * K : POINTS];
    const V zero = {};
    for (int64_t j = from; j < to; ++j) {
      for (int64_t s = 0; s < heads() * dims(); ++s) row[s] = zero;
      for (int64_t i = 0; i < n; i += BLOCK) {
        entries(j, i, inverses, w);
        for (int u = 0; u < WIDTH; ++u) {
          const int64_t at = i + u * LANES;
          g[u] = at < n ? slope(w[u], tau, gate) * load(grad + j * n + at, n - at) * scale : zero;
        }
        for (int64_t h = 0; h < heads(); ++h) {
          const T c = scales ? scales[h] : h % 2 ? T(-0.1) : T(0.1);
          for (int u = 0; u < WIDTH; ++u) {
            if (scales) sums[h] += inverses[h][u] == 0 ? zero : g[u] / inverses[h][u];
            pull[u] = c * g[u] * inverses[h][u];
          }
          for (int64_t d = 0; d < dims(); ++d) {
            const int64_t point = (h * dims() + d) * padded + i;
            const T own = b[(h * m + j) * dims() + d];
            for (int u = 0; u < WIDTH; ++u) {
              const V part = pull[u] * (own - load(a + point + u * LANES));
              T *target = grad_a + point + u * LANES;
              row[h * dims() + d] += part;
              store(target, load(target) - part);
            }
          }
        }
      }
      for (int64_t s = 0; s < heads() * dims(); ++s)
        grad_b[(s / dims() * m + j) * dims() + s % dims()] = total(row[s]);
    }
    for (int64_t h = 0; h < heads(); ++h) grad_c[h] += total(sums[h]);
  }

  static T total(V v) {
    T sum = 0;
    for (int l = 0; l < LANES; ++l) sum += v[l];
    return sum;
  }
};

// One set of functions a type; the arguments that all share come first.
#define SHARED(T)                                                                             \
  const T *a, const T *b, const T *scales, int64_t heads, int64_t dims, int64_t n, int64_t m, \
      int64_t padded
#define GIVEN \
  { a, b, scales, heads, dims, n, m, padded }

// Two heads of four dimensions, which is r = 8, are compiled for themselves.
#define BY_SHAPE(T, BITS, CALL)                                  \
  if (heads == 2 && dims == 4) Kernel<T, BITS, 2, 4> GIVEN.CALL; \
  else if (heads == 2) Kernel<T, BITS, 2, 0> GIVEN.CALL;         \
  else Kernel<T, BITS, 0, 0> GIVEN.CALL;

#define EXPORT(SUFFIX, T, BITS)                                                                   \
  extern "C" void snell_sample_##SUFFIX(SHARED(T), int64_t stride, int64_t count, T *out) {       \
    BY_SHAPE(T, BITS, sample(stride, count, out))                                                 \
  }                                                                                               \
  extern "C" void snell_pick_##SUFFIX(SHARED(T), int64_t from, int64_t to, double low,            \
                                      double high, T *out, int64_t room, int64_t *found) {        \
    BY_SHAPE(T, BITS, pick(from, to, T(low), T(high), out, room, found))                          \
  }                                                                                               \
  extern "C" void snell_merge_##SUFFIX(SHARED(T), int64_t from, int64_t to, double tau,           \
                                       double scale, int64_t gate, const T *weight, T *out) {     \
    BY_SHAPE(T, BITS, merge(from, to, T(tau), T(scale), int(gate), weight, out))                  \
  }                                                                                               \
  extern "C" void snell_fold_##SUFFIX(SHARED(T), int64_t from, int64_t to, double tau,            \
                                      double scale, int64_t gate, const T *grad, T *grad_a,       \
                                      T *grad_b, T *grad_c) {                                     \
    BY_SHAPE(T, BITS, fold(from, to, T(tau), T(scale), int(gate), grad, grad_a, grad_b, grad_c))  \
  }

EXPORT(f32, float, int32_t)
EXPORT(f64, double, int64_t)
