#include "sampling/verify.hpp"

#include <algorithm>

#include "sampling/row_decider.hpp"

namespace edgespec::sampling {

namespace {

// What a thread must have to do: to wake one that sleeps takes 5 to 50 us, and one that spins about 1.
constexpr std::uint64_t kWorthAThreadPs = 20'000'000;

// A token's cost in picoseconds where the vectors are AVX-512's; where they are shorter threads pay sooner than this.
std::uint64_t cost_ps(Way way) {
    switch (way) {
        case Way::greedy:
            return 230;
        case Way::noisy:
            return 500;
        case Way::listed:
            return 650;
        case Way::filtered:
            break;
    }
    return 5000;
}

template <class T>
void decide_all(const VerifyInput& in, const VerifyOutput& out, std::size_t threads, const Tier& tier,
                ThreadPool& pool) {
    std::vector<RowDecider<T>> deciders;
    deciders.reserve(threads);
    while (deciders.size() < threads) deciders.emplace_back(in, tier);
    if (threads > 1) {
        for (RowDecider<T>& decider : deciders) decider.reserve();
    }
    pool.run(threads, in.trees.first(in.trees.sessions), [&](std::size_t row, std::size_t slot) {
        const Decision decision = deciders[slot].decide(in.trees.session_of(row), row);
        out.choices[row] = decision.token;
        out.logprobs[row] = decision.logprob;
        out.margins[row] = decision.margin;
    });
}

// Follows the choices down a session's tree.
void walk(const Trees& trees, std::size_t session, const VerifyOutput& out) {
    const std::int32_t* choices = out.choices + trees.first(session);
    std::int32_t* path = out.paths + session * out.path_width;
    std::size_t row = 0;
    std::int32_t length = 0;
    while (choices[row] >= 0 && (row = trees.child(session, row, choices[row])) != 0) {
        path[length++] = static_cast<std::int32_t>(row);
    }
    out.lengths[session] = length;
}

}  // namespace

std::size_t useful_threads(const VerifyInput& input, std::size_t threads) {
    std::uint64_t all_ps = 0, largest_ps = kWorthAThreadPs;
    for (std::size_t session = 0; session < input.trees.sessions; ++session) {
        const Way way = input.type == Type::float64 ? way_of<double>(input, session) : way_of<float>(input, session);
        const std::uint64_t row_ps = input.vocabulary * cost_ps(way);
        all_ps += input.trees.size(session) * row_ps;
        largest_ps = std::max(largest_ps, row_ps);
    }
    return std::clamp<std::size_t>(all_ps / largest_ps, 1, threads);
}

void verify(const VerifyInput& input, const VerifyOutput& output, std::size_t threads, const Tier& tier,
            ThreadPool& pool) {
    if (input.type == Type::float64) {
        decide_all<double>(input, output, threads, tier, pool);
    } else {
        decide_all<float>(input, output, threads, tier, pool);
    }
    for (std::size_t session = 0; session < input.trees.sessions; ++session) walk(input.trees, session, output);
}

}  // namespace edgespec::sampling
