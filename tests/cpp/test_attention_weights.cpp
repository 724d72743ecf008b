// The weights of attention, in every tier that this processor runs: those of the scores, and never a denormal number,
// which processors compute ten times as slowly.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "simd/tier.hpp"

using namespace edgespec::simd;

namespace {

void weights_are_right_and_no_denormal_numbers(const Tier& tier) {
    const float unseen = -1.0e30f;
    const std::vector<float> differences = {0.0f,   -1.0f,   -20.0f,  -86.9f,  -87.1f,  -88.0f,
                                            -95.0f, -103.0f, -104.0f, -110.0f, -500.0f, unseen};
    const std::size_t count = differences.size();
    std::vector<float> bias(count * kQueries, 0.0f), scores(count * kQueries);
    for (std::size_t s = 0; s < count; ++s) {
        for (std::size_t q = 0; q < kQueries; ++q) scores[s * kQueries + q] = 3.0f + differences[s];
    }
    std::fill_n(bias.begin() + static_cast<std::ptrdiff_t>((count - 1) * kQueries), kQueries, unseen);
    float sums[kQueries];
    tier.layer.weigh(bias.data(), count, scores.data(), sums);
    for (std::size_t s = 0; s < count; ++s) {
        for (std::size_t q = 0; q < kQueries; ++q) {
            const float weight = scores[s * kQueries + q], right = std::exp(differences[s]);
            CHECK(weight == 0.0f || weight >= FLT_MIN);
            CHECK(std::fabs(weight - right) <= 1e-6f * right + 2e-38f);
        }
    }
    CHECK(std::fabs(sums[0] - (1.0f + std::exp(-1.0f))) < 1e-5f);
}

}  // namespace

int main() {
    for (const Tier* const* tier = tiers(); *tier != nullptr; ++tier) weights_are_right_and_no_denormal_numbers(**tier);
    return 0;
}
