// The sampling noise: Gumbel values as a pure function of (seed, position, token), the same bits on every machine.
//
// key = (seed, seed >> 32); counter = (token / 4, position, 0, 0); word token % 4 of Philox4x32-10 gives x.
//   u = float32((x + 1/2) 2^-32), where 1, which the 128 highest x round to, is taken as 1 - 2^-24;
//   w = float32(-ln(1 - u));  g = float32(-ln(w)).
// Both logarithms are worked out in double and rounded once, by additions, products and divisions alone (no libm, no
// fused multiply-add), so that edge and server agree whatever their processors are. The large values of g, those that
// win, come from small u, which float32 resolves finely; the mirrored form, -ln(-ln(u)), would round u to 1 and give
// an infinite score about once in 30 million draws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgespec::noise {

// Fills out[0 .. count) with the noise of tokens first_token, first_token + 1, ... at `position`.
void fill_gumbel(std::uint64_t seed, std::uint32_t position, std::uint32_t first_token, std::size_t count, float* out);

// The random word of one token, and the noise made of it.
std::uint32_t noise_word(std::uint64_t seed, std::uint32_t position, std::uint32_t token);
float gumbel(std::uint32_t word);

}  // namespace edgespec::noise
