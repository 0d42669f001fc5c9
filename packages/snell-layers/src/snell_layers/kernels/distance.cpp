// The distance kernel on a CPU: threshold, merge and factor gradients, each in one pass.
//
// An entry is w = (distance - distance + ...) * 0.1, or the distances times trained coefficients.
// Every number of it is rounded once per operation, in the order of snell_layers.distance, so the
// bits are those of the torch path: build this without contraction into fused multiply-adds. A
// distance is its square times one over the root of that, which torch, too, rounds step by step.
//
// Shapes: a, the input side, (heads, dims, padded), a point per column, where `padded` is n rounded
// up to whole vectors, and an odd number of cache lines, so that the rows of a do not fight for the
// same places in the cache; b, the output side, (heads, m, dims); matrices (m, n). Functions work
// on the rows [from, to), so that threads share a matrix. Vectors are those of GCC and Clang, which
// make them fit any processor.

#include <cmath>
#include <cstdint>
#include <cstring>

constexpr int HEADS = 8;     // at most
constexpr int POINTS = 256;  // heads * dims, at most
#define INLINE inline __attribute__((always_inline))

enum Gate { RELEASED, PAPER, HARD, NONE };

// H heads of K dimensions where they are known when this is compiled; 0 where not.
template <typename T, typename Bits, int H, int K>
struct Kernel {
  typedef T V __attribute__((vector_size(64)));
  typedef Bits M __attribute__((vector_size(64)));
  static constexpr int LANES = 64 / sizeof(T), SOME_HEADS = H ? H : HEADS;
  static constexpr int SOME_POINTS = H && K ? H * K : POINTS;

  const T *a, *b, *scales;  // scales: (heads), or null for the frozen +0.1, -0.1, ...
  int64_t heads_, dims_, n, m, padded;

  int64_t heads() const { return H ? H : heads_; }
  int64_t dims() const { return K ? K : dims_; }

  static INLINE V load(const T *from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
  }
  static INLINE void store(T *to, V v) { memcpy(to, &v, sizeof v); }
  // Up to the end of a row; zeros are read beyond it.
  static INLINE V load(const T *from, int64_t count) {
    if (count >= LANES) return load(from);
    V v = {};
    for (int l = 0; l < count; ++l) v[l] = from[l];
    return v;
  }
  static INLINE void store(T *to, V v, int64_t count) {
    if (count >= LANES) return store(to, v);
    for (int l = 0; l < count; ++l) to[l] = v[l];
  }
  static INLINE V root(V x) {
    for (int l = 0; l < LANES; ++l) x[l] = std::sqrt(x[l]);
    return x;
  }
  static INLINE V magnitude(V x) {
    M bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= ~(Bits(1) << (8 * sizeof(T) - 1));
    memcpy(&x, &bits, sizeof bits);
    return x;
  }
  static INLINE bool any(M mask) {
    uint64_t part[8], all = 0;
    memcpy(part, &mask, sizeof part);
    for (uint64_t p : part) all |= p;
    return all;
  }
  static T total(V v) {
    T sum = 0;
    for (int l = 0; l < LANES; ++l) sum += v[l];
    return sum;
  }

  // Calls `work` with whole pairs of rows, which share what they read of a, and a last single one.
  template <typename Work>
  static INLINE void pairs(int64_t from, int64_t to, Work work) {
    for (; from + 2 <= to; from += 2) work(from, Rows<2>());
    if (from < to) work(from, Rows<1>());
  }
  template <int R>
  struct Rows {
    static constexpr int COUNT = R;
  };

  // Entries of R rows from j on, in the vector of columns from i on, and one over the distances of
  // each head; zero at distance zero, where the subgradient is.
  template <int R>
  INLINE void entries(int64_t j, int64_t i, V (*inverses)[2], V *w) const {
    for (int64_t h = 0; h < heads(); ++h) {
      const T *column = a + h * dims() * padded + i, *point = b + (h * m + j) * dims();
      V q[R];
      for (int r = 0; r < R; ++r) {
        const V difference = point[r * dims()] - load(column);
        q[r] = difference * difference;
      }
      for (int64_t d = 1; d < dims(); ++d) {
        const V other = load(column + d * padded);
        for (int r = 0; r < R; ++r) {
          const V difference = point[r * dims() + d] - other;
          q[r] += difference * difference;
        }
      }
      for (int r = 0; r < R; ++r) {
        const V zero = {}, inverse = q[r] == 0 ? zero : T(1) / root(q[r]);
        const V distance = q[r] * inverse;
        inverses[h][r] = inverse;
        if (scales) w[r] = h ? w[r] + distance * scales[h] : distance * scales[0];
        else w[r] = h == 0 ? distance : h % 2 ? w[r] - distance : w[r] + distance;
      }
    }
    for (int r = 0; r < R && !scales; ++r) w[r] *= T(0.1);
  }

  // |w| at every stride-th position.
  void sample(int64_t stride, int64_t count, T *out) const {
    V inverses[SOME_HEADS][2], w[1] = {};
    for (int64_t s = 0; s < count; ++s) {
      const int64_t j = s * stride / n, i = s * stride % n, lane = i % LANES;
      entries<1>(j, i - lane, inverses, w);
      out[s] = std::fabs(w[0][lane]);
    }
  }

  // Writes the lanes of a mask without a branch: the next number overwrites what is not wanted.
  static INLINE void keep(V size, M wanted, T *out, int64_t room, int64_t *inside) {
    if (!any(wanted)) return;
    for (int l = 0; l < LANES; ++l) {
      out[*inside < room ? *inside : room] = size[l];
      *inside -= wanted[l];
    }
  }

  // How many magnitudes are below `low`, and those from `low` to `high`: `out` has place for
  // `room` of them and one more number.
  void pick(int64_t from, int64_t to, T low, T high, T *out, int64_t room, int64_t *found) const {
    int64_t below = 0, inside = 0;
    pairs(from, to, [&](int64_t j, auto rows) {
      constexpr int R = decltype(rows)::COUNT;
      V inverses[SOME_HEADS][2], w[R] = {};
      M under = {};
      for (int64_t i = 0; i < n; i += LANES) {
        entries<R>(j, i, inverses, w);
        for (int r = 0; r < R; ++r) {
          V size = magnitude(w[r]);
          for (int64_t l = n - i; l < LANES; ++l) size[l] = T(NAN);  // beyond the row: nowhere
          under -= size < low;
          keep(size, (size >= low) & (size <= high), out, room, &inside);
        }
      }
      for (int l = 0; l < LANES; ++l) below += under[l];
    });
    found[0] = below;
    found[1] = inside;
  }

  // The same, of numbers that are there already.
  static void pick_values(const T *values, int64_t count, T low, T high, T *out, int64_t room,
                          int64_t *found) {
    int64_t below = 0, inside = 0;
    M under = {};
    for (int64_t i = 0; i < count; i += LANES) {
      V size = magnitude(load(values + i, count - i));
      for (int64_t l = count - i; l < LANES; ++l) size[l] = T(NAN);
      under -= size < low;
      keep(size, (size >= low) & (size <= high), out, room, &inside);
    }
    for (int l = 0; l < LANES; ++l) below += under[l];
    found[0] = below;
    found[1] = inside;
  }

  static INLINE V value(V w, T tau, int gate) {
    const V size = magnitude(w), zero = {};
    if (gate == RELEASED) return w * (size <= tau ? zero : size);  // a NaN stays one
    if (gate == PAPER) return w * (size <= tau ? zero : size - tau);
    if (gate == HARD) return w * (size <= tau ? zero : zero + 1);
    return w;
  }

  static INLINE V slope(V w, T tau, int gate) {
    const V size = magnitude(w), zero = {};
    if (gate == RELEASED) return size <= tau ? zero : size;
    if (gate == PAPER) return size <= tau ? zero : size * 2 - tau;
    if (gate == HARD) return size <= tau ? zero : zero + 1;
    return zero + 1;
  }

  // One vector of weight + scale * value, or of the update alone where weight is null.
  INLINE void put(V w, int64_t at, int64_t count, T tau, T scale, int gate, const T *weight,
                  T *out) const {
    const V v = value(w, tau, gate) * scale;  // times one changes nothing
    store(out + at, weight ? load(weight + at, count) + v : v, count);
  }

  void merge(int64_t from, int64_t to, T tau, T scale, int gate, const T *weight, T *out) const {
    pairs(from, to, [&](int64_t j, auto rows) {
      constexpr int R = decltype(rows)::COUNT;
      V inverses[SOME_HEADS][2], w[R] = {};
      for (int64_t i = 0; i < n; i += LANES) {
        entries<R>(j, i, inverses, w);
        for (int r = 0; r < R; ++r)
          put(w[r], (j + r) * n + i, n - i, tau, scale, gate, weight, out);
      }
    });
  }

  // The rows' own grad_b (heads, m, dims) is written; their part of grad_a, laid out like a, and of
  // grad_c (heads) is added to what is there. If asked for, what merge writes replaces grad.
  void fold(int64_t from, int64_t to, T tau, T scale, int gate, T *grad, T *grad_a, T *grad_b,
            T *grad_c, bool replace, const T *weight) const {
    V sums[SOME_HEADS] = {};
    pairs(from, to, [&](int64_t j, auto rows) {
      constexpr int R = decltype(rows)::COUNT;
      const V zero = {};
      V inverses[SOME_HEADS][2], w[R] = {}, g[R], pull[R], row[SOME_POINTS][R];
      for (int64_t s = 0; s < heads() * dims(); ++s)
        for (int r = 0; r < R; ++r) row[s][r] = zero;
      for (int64_t i = 0; i < n; i += LANES) {
        entries<R>(j, i, inverses, w);
        for (int r = 0; r < R; ++r) {
          const int64_t at = (j + r) * n + i;
          g[r] = slope(w[r], tau, gate) * load(grad + at, n - i) * scale;
          if (replace) put(w[r], at, n - i, tau, scale, gate, weight, grad);
        }
        for (int64_t h = 0; h < heads(); ++h) {
          const T c = scales ? scales[h] : h % 2 ? T(-0.1) : T(0.1);
          for (int r = 0; r < R; ++r) {
            if (scales) sums[h] += inverses[h][r] == 0 ? zero : g[r] / inverses[h][r];
            pull[r] = c * g[r] * inverses[h][r];
          }
          for (int64_t d = 0; d < dims(); ++d) {
            const int64_t s = h * dims() + d;
            const T *own = b + (h * m + j) * dims() + d;
            const V other = load(a + s * padded + i);
            V sum = load(grad_a + s * padded + i);
            for (int r = 0; r < R; ++r) {
              const V part = pull[r] * (own[r * dims()] - other);
              row[s][r] += part;
              sum -= part;
            }
            store(grad_a + s * padded + i, sum);
          }
        }
      }
      for (int64_t s = 0; s < heads() * dims(); ++s)
        for (int r = 0; r < R; ++r)
          grad_b[(s / dims() * m + j + r) * dims() + s % dims()] = total(row[s][r]);
    });
    for (int64_t h = 0; h < heads(); ++h) grad_c[h] += total(sums[h]);
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
  extern "C" void snell_values_##SUFFIX(const T *values, int64_t count, double low, double high,  \
                                        T *out, int64_t room, int64_t *found) {                   \
    Kernel<T, BITS, 0, 0>::pick_values(values, count, T(low), T(high), out, room, found);         \
  }                                                                                               \
  extern "C" void snell_merge_##SUFFIX(SHARED(T), int64_t from, int64_t to, double tau,           \
                                       double scale, int64_t gate, const T *weight, T *out) {     \
    BY_SHAPE(T, BITS, merge(from, to, T(tau), T(scale), int(gate), weight, out))                  \
  }                                                                                               \
  extern "C" void snell_fold_##SUFFIX(SHARED(T), int64_t from, int64_t to, double tau,            \
                                      double scale, int64_t gate, T *grad, T *grad_a, T *grad_b,  \
                                      T *grad_c, int64_t replace, const T *weight) {              \
    BY_SHAPE(T, BITS, fold(from, to, T(tau), T(scale), int(gate), grad, grad_a, grad_b, grad_c,   \
                           replace, weight))                                                      \
  }

EXPORT(f32, float, int32_t)
EXPORT(f64, double, int64_t)
