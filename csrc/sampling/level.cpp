#include "sampling/level.hpp"

#include <cstring>

namespace edgespec::sampling {

extern const Level baseline_level;
#if defined(__x86_64__)
extern const Level avx2_level, avx512_level;
#if defined(EDGESPEC_AVX512_BF16)
extern const Level avx512_bf16_level;
#endif
#endif

namespace {

struct Found {
    const Level* levels[5] = {};
    Found() {
        const Level** next = levels;
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if defined(EDGESPEC_AVX512_BF16)
        if (avx512 && __builtin_cpu_supports("avx512bf16")) *next++ = &avx512_bf16_level;
#endif
        if (avx512) *next++ = &avx512_level;
        if (avx2) *next++ = &avx2_level;
#endif
        *next = &baseline_level;
    }
};

}  // namespace

const Level* const* levels() {
    static const Found found;
    return found.levels;
}

const Level* find_level(const char* name) {
    for (const Level* const* level = levels(); *level != nullptr; ++level) {
        if (*name == '\0' || std::strcmp((*level)->name, name) == 0) return *level;
    }
    return nullptr;
}

}  // namespace edgespec::sampling
