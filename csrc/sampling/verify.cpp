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
void verify_session(RowDecider<T>& decider, const VerifyInput& in, const VerifyOutput& out, std::size_t session) {
    const Trees& trees = in.trees;
    const std::size_t first = trees.first(session);
    std::size_t row = 0;
    std::int32_t length = 0;
    while (true) {
        const Decision decision = decider.decide(session, first + row);
        out.logprobs[session * out.width + static_cast<std::size_t>(length)] = decision.logprob;
        out.margins[session * out.width + static_cast<std::size_t>(length)] = decision.margin;
        row = decision.token < 0 ? 0 : trees.child(session, row, decision.token);
        if (row == 0) {
            out.lengths[session] = length;
            out.tokens[session] = decision.token;
            out.sound[session] = decision.token >= 0;
            return;
        }
        out.paths[session * out.path_width + static_cast<std::size_t>(length++)] = static_cast<std::int32_t>(row);
    }
}

template <class T>
void verify_all(const VerifyInput& in, const VerifyOutput& out, std::size_t threads, const Tier& tier,
                ThreadPool& pool) {
    std::vector<RowDecider<T>> deciders;
    deciders.reserve(threads);
    while (deciders.size() < threads) deciders.emplace_back(in, tier);
    if (threads > 1) {
        for (RowDecider<T>& decider : deciders) decider.reserve();
    }
    pool.run(threads, in.trees.sessions,
             [&](std::size_t session, std::size_t slot) { verify_session(deciders[slot], in, out, session); });
}

}  // namespace

std::size_t useful_threads(const VerifyInput& input, std::size_t threads) {
    std::uint64_t all_ps = 0, largest_ps = kWorthAThreadPs;
    for (std::size_t session = 0; session < input.trees.sessions; ++session) {
        const Way way = input.type == Type::float64 ? way_of<double>(input, session) : way_of<float>(input, session);
        const std::uint64_t own_ps = input.vocabulary * cost_ps(way);  // of the one row that is decided for sure
        all_ps += own_ps;
        largest_ps = std::max(largest_ps, own_ps);
    }
    return std::clamp<std::size_t>(all_ps / largest_ps, 1, threads);
}

void verify(const VerifyInput& input, const VerifyOutput& output, std::size_t threads, const Tier& tier,
            ThreadPool& pool) {
    if (input.type == Type::float64) {
        verify_all<double>(input, output, threads, tier, pool);
    } else {
        verify_all<float>(input, output, threads, tier, pool);
    }
}

}  // namespace edgespec::sampling
