// Philox4x32-10 (see philox.hpp) of many counters at once, in the level's vectors. Included by level_loops.hpp alone.

#if EDGESPEC_LANE_BYTES == 64
EDGESPEC_INLINE void multiply_wide(Words x, std::uint32_t by, Words& high, Words& low) {
    const __m512i factor = _mm512_set1_epi32(static_cast<int>(by)), all = (__m512i)x;
    const __m512i even = _mm512_mul_epu32(all, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(all, 32), factor);
    high = (Words)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
    low = (Words)_mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
}
#elif EDGESPEC_LANE_BYTES == 32
EDGESPEC_INLINE void multiply_wide(Words x, std::uint32_t by, Words& high, Words& low) {
    const __m256i factor = _mm256_set1_epi32(static_cast<int>(by)), all = (__m256i)x;
    const __m256i even = _mm256_mul_epu32(all, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(all, 32), factor);
    high = (Words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    low = (Words)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
#else
EDGESPEC_INLINE void multiply_wide(Words x, std::uint32_t by, Words& high, Words& low) {
    for (std::size_t i = 0; i < kLanes; ++i) {
        const std::uint64_t product = std::uint64_t{by} * x[i];
        high[i] = static_cast<std::uint32_t>(product >> 32);
        low[i] = static_cast<std::uint32_t>(product);
    }
}
#endif

// words[w][i]: word w of counter (counters[i], position, stream, 0). kCount: a multiple of kLanes.
template <std::size_t kCount>
EDGESPEC_INLINE void philox_blocks(const Noise& noise, const std::uint32_t* counters, std::uint32_t (*words)[kCount]) {
    constexpr std::size_t kVectors = kCount / kLanes;
    Words c[4][kVectors];
    for (std::size_t i = 0; i < kVectors; ++i) {
        c[0][i] = load<Words>(counters + i * kLanes);
        c[1][i] = Words{} + noise.position;
        c[2][i] = Words{} + noise.stream;
        c[3][i] = Words{};
    }
    auto k0 = static_cast<std::uint32_t>(noise.seed), k1 = static_cast<std::uint32_t>(noise.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        for (std::size_t i = 0; i < kVectors; ++i) {
            Words left, left_low, right, right_low;
            multiply_wide(c[0][i], 0xD2511F53u, left, left_low);
            multiply_wide(c[2][i], 0xCD9E8D57u, right, right_low);
            c[0][i] = right ^ c[1][i] ^ k0;
            c[1][i] = right_low;
            c[2][i] = left ^ c[3][i] ^ k1;
            c[3][i] = left_low;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (std::size_t w = 0; w < 4; ++w) std::memcpy(words[w], c[w], sizeof c[w]);
}

// The 64 words of the tokens from 4 * first_counter on.
EDGESPEC_INLINE void philox_block(const Noise& noise, std::uint32_t first_counter, std::uint32_t* words) {
    constexpr std::size_t kCounters = kBlock / 4;
    std::uint32_t counters[kCounters], four[4][kCounters];
    for (std::uint32_t i = 0; i < kCounters; ++i) counters[i] = first_counter + i;
    philox_blocks<kCounters>(noise, counters, four);
    for (std::size_t i = 0; i < kCounters; ++i) {
        for (std::size_t w = 0; w < 4; ++w) words[4 * i + w] = four[w][i];
    }
}
