// An exit's guess on a CPU: RMS norm, LM head, coupled noise, and each row's best token with its margin.
//
// The vocabulary is cut into pieces of fixed length, each multiplied, reduced and forgotten; the pieces' results are
// joined in the order of their tokens, so that the outcome does not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "simd/tier.hpp"
#include "threads/thread_pool.hpp"

namespace edgespec::sampling {

using simd::Tier;
using simd::Type;

struct ExitHeadInput {
    Type type;           // of hidden, norm and head: float32, bfloat16 or float16
    const void* hidden;  // [rows, dim]
    const void* norm;    // [dim]
    const void* head;    // [vocabulary, dim]
    std::size_t rows, dim, vocabulary;
    const float* temperatures;      // [rows], 0: greedy
    const std::uint64_t* seeds;     // [rows]
    const std::int32_t* positions;  // [rows]
    float epsilon, logit_scale, softcap;
};

// What is said of one row; token -1 and margin NaN where its logits are NaN or infinite.
struct ExitHeadRow {
    std::int32_t token;
    float margin;
};

// On `threads` of the pool's threads, the caller's included.
std::vector<ExitHeadRow> exit_head(const ExitHeadInput& input, std::size_t threads, const Tier& tier, ThreadPool& pool);

// Writes logits [rows, stride] of `count` tokens from `first` on, which are at most kPiece and begin at a multiple of
// it; it may write on up to `stride`.
constexpr std::size_t kPiece = 256;
using HeadProduct = std::function<void(std::size_t first, std::size_t count, float* logits, std::size_t stride)>;

// The same where something else holds the head: hidden, norm and head of the input are not looked at.
std::vector<ExitHeadRow> exit_head(const ExitHeadInput& input, const HeadProduct& product, std::size_t threads,
                                   const Tier& tier, ThreadPool& pool);

}  // namespace edgespec::sampling
