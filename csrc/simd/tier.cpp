#include "simd/tier.hpp"

#include <cstring>

namespace edgespec::simd {

namespace baseline {
extern const Tier tier;
}
namespace avx2 {
extern const Tier tier;
}
namespace avx512 {
extern const Tier tier;
}
namespace avx512_bf16 {
extern const Tier tier;
}

namespace {

struct Found {
    const Tier* tiers[5] = {};
    Found() {
        const Tier** next = tiers;
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if defined(EDGESPEC_AVX512_BF16)
        if (has_avx512 && __builtin_cpu_supports("avx512bf16")) *next++ = &avx512_bf16::tier;
#endif
        if (has_avx512) *next++ = &avx512::tier;
        if (has_avx2) *next++ = &avx2::tier;
#endif
        *next = &baseline::tier;
    }
};

}  // namespace

const Tier* const* tiers() {
    static const Found found;
    return found.tiers;
}

const Tier* find_tier(const char* name) {
    for (const Tier* const* tier = tiers(); *tier != nullptr; ++tier) {
        if (*name == '\0' || std::strcmp((*tier)->name, name) == 0) return *tier;
    }
    return nullptr;
}

}  // namespace edgespec::simd
