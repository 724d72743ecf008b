// The verdict on a CPU: every row is decided, then each session's tree walked.
//
// A row is widened to float32 (float64 stays), biased, penalised, divided by the temperature, filtered, given noise,
// and its best token taken. Rows are shared out among threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampling/trees.hpp"
#include "simd/tier.hpp"
#include "threads/thread_pool.hpp"

namespace edgespec::sampling {

using simd::Tier;
using simd::Type;

// List n is ids[offsets[n] .. offsets[n + 1]), with a value each where that is meant. No offsets: no list has an id.
struct Lists {
    const std::int32_t *offsets, *ids;
    const float* values;

    std::int32_t begin(std::size_t n) const { return offsets == nullptr ? 0 : offsets[n]; }
    std::int32_t end(std::size_t n) const { return offsets == nullptr ? 0 : offsets[n + 1]; }
};

struct Samplings {  // each [sessions]
    const double* temperatures;
    const std::int32_t* top_k;
    const double *top_p, *min_p, *penalties;
    const std::uint64_t* seeds;
};

struct VerifyInput {
    Type type;
    const void* logits;  // [rows, vocabulary]
    std::size_t vocabulary;
    Trees trees;
    const std::int32_t* positions;  // [rows], of the token decided after each row
    Samplings samplings;
    Lists seen;    // per row: ids of its text, for the repetition penalty
    Lists biases;  // per row
};

struct VerifyOutput {
    std::size_t path_width;
    std::int32_t *lengths, *paths;  // [sessions], [sessions, path_width]
    std::int32_t* choices;          // [rows]; -1: the row is not sound
    float *logprobs, *margins;      // [rows]
};

// At most `threads`, as far as each has enough to do to pay for being woken.
std::size_t useful_threads(const VerifyInput& input, std::size_t threads);

// On `threads` of the pool's threads, the caller's included.
void verify(const VerifyInput& input, const VerifyOutput& output, std::size_t threads, const Tier& tier,
            ThreadPool& pool);

}  // namespace edgespec::sampling
