// The sampling noise: Gumbel values as a pure function of (seed, position, token), the same on edge and server.
//
// key = seed; counter = (token / 4, position, stream, 0); word token % 4 gives x;
// u = (x + 1/2) 2^-32; g = -log(-log1p(-u)) in float32. The mirrored form, -log(-log(u)), rounds u to 1 and gives an
// infinite score about once in 30 million draws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgespec::sampling {

constexpr std::uint32_t kGumbelStream = 0;
constexpr std::uint32_t kUniformStream = 1;

// Fills out[0 .. count) with the noise of tokens first_token, first_token + 1, ... at `position`.
void fill_gumbel(std::uint64_t seed, std::uint32_t position, std::uint32_t first_token, std::size_t count, float* out);

}  // namespace edgespec::sampling
