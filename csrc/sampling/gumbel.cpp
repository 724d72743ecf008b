#include "sampling/gumbel.hpp"

#include <algorithm>
#include <cmath>

#include "sampling/philox.hpp"

namespace edgespec::sampling {

namespace {

// u in float32 is rounded from double: exact to half a unit in the last place, never 0; 1 - u may round to 0 only
// where u rounds to 1, that is for the 128 highest words, which are capped one step below.
float gumbel(std::uint32_t word) {
    constexpr float kBelowOne = 0x1.fffffep-1f;
    const float u = std::min(static_cast<float>((static_cast<double>(word) + 0.5) * 0x1p-32), kBelowOne);
    return -std::log(-std::log1p(-u));
}

}  // namespace

void fill_gumbel(std::uint64_t seed, std::uint32_t position, std::uint32_t first_token, std::size_t count, float* out) {
    const Key key = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    std::size_t done = 0;
    while (done < count) {
        const std::uint32_t token = first_token + static_cast<std::uint32_t>(done);
        const Counter words = philox4x32_10({token / 4, position, kGumbelStream, 0}, key);
        for (std::uint32_t word = token % 4; word < 4 && done < count; ++word, ++done) {
            out[done] = gumbel(words[word]);
        }
    }
}

}  // namespace edgespec::sampling
