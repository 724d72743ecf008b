// Vectors of a row's scores: exponentials, maxima and sums of them. Included by level_loops.hpp alone.

template <class T>
struct VectorOf {
    typedef T Vector __attribute__((vector_size(EDGESPEC_LANE_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::Vector;

template <class T>
constexpr std::size_t kLanesOf = EDGESPEC_LANE_BYTES / sizeof(T);

// exp(x) for x <= 0, relative error below 2e-7; 0 far below, NaN stays NaN. Cephes' expf, by Moshier.
EDGESPEC_INLINE Floats exp_of(Floats x) {
    constexpr float kLog2 = 1.44269504089f;
#if EDGESPEC_LANE_BYTES == 64
    const Floats bounded = (Floats)_mm512_max_ps(_mm512_set1_ps(-110.0f), (__m512)x);  // NaN stays
    const Floats n = (Floats)_mm512_roundscale_ps((__m512)(bounded * kLog2), _MM_FROUND_TO_NEAREST_INT);
#else
    constexpr float kMagic = 12582912.0f;
    const Floats bounded = x < -87.0f ? Floats{} - 87.0f : x;
    const Floats shifted = bounded * kLog2 + kMagic;
    const Floats n = shifted - kMagic;
#endif
    const Floats r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
#if EDGESPEC_LANE_BYTES == 64
    return (Floats)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    const Floats power = (Floats)(((Words)shifted << 23) + 0x3f800000u);
    return x < -87.0f ? Floats{} : p * power;
#endif
}

EDGESPEC_INLINE Vector<double> exp_of(Vector<double> x) {
    for (std::size_t i = 0; i < kLanesOf<double>; ++i) x[i] = __builtin_exp(x[i]);
    return x;
}

template <class T>
EDGESPEC_INLINE T max_of(const T* z, std::size_t count, T top) {
    constexpr std::size_t kStep = kLanesOf<T>;
    Vector<T> tops = Vector<T>{} + top;
    const std::size_t whole = count - count % kStep;
    for (std::size_t i = 0; i < whole; i += kStep) {
        const Vector<T> own = load<Vector<T>>(z + i);
        tops = own > tops ? own : tops;
    }
    top = fold(tops, [](Vector<T> a, Vector<T> b) { return a > b ? a : b; });
    for (std::size_t i = whole; i < count; ++i) top = z[i] > top ? z[i] : top;
    return top;
}

// The sum of term(i) over [0, count), vectors of terms at a time: those of 1024 terms are kept in T, more in double.
// term(i, n): n terms from i on; those beyond them may be anything.
template <class T, class Term>
EDGESPEC_INLINE double sum_terms(std::size_t count, Term term) {
    constexpr std::size_t kStep = kLanesOf<T>;
    double sum = 0;
    std::size_t i = 0;
    while (i + kStep <= count) {
        Vector<T> sums{};
        const std::size_t end = count - i < 1024 ? count : i + 1024;
        for (; i + kStep <= end; i += kStep) sums += term(i, kStep);
        for (std::size_t k = 0; k < kStep; ++k) sum += sums[k];
    }
    if (i < count) {
        const Vector<T> rest = term(i, count - i);
        for (std::size_t k = 0; k < count - i; ++k) sum += rest[k];
    }
    return sum;
}

// Up to a vector of values; the rest is 0.
template <class T>
EDGESPEC_INLINE Vector<T> load_some(const T* from, std::size_t count) {
    if (count >= kLanesOf<T>) return load<Vector<T>>(from);
    Vector<T> some{};
    std::memcpy(&some, from, count * sizeof(T));
    return some;
}
