// A verification takes only threads that have enough to do, however many there are.
#include <vector>

#include "check.hpp"
#include "sampling/verify.hpp"

using namespace edgespec::sampling;

namespace {

constexpr std::size_t kVocabulary = 32000;

struct Way {
    double temperature;
    std::int32_t top_k;
    double top_p;
};

constexpr Way kGreedy{0, 0, 1}, kOpen{0.8, 0, 1}, kTopP{0.8, 0, 0.9};

// Of sessions of some rows each, out of 4 threads.
std::size_t threads_of(const std::vector<Way>& ways, std::int32_t rows = 1) {
    const std::size_t sessions = ways.size();
    std::vector<std::int32_t> offsets(sessions + 1), top_k;
    for (std::size_t session = 0; session < sessions; ++session) offsets[session + 1] = offsets[session] + rows;
    std::vector<double> temperatures, top_p;
    for (const Way& way : ways) {
        temperatures.push_back(way.temperature);
        top_k.push_back(way.top_k);
        top_p.push_back(way.top_p);
    }
    VerifyInput input{};
    input.type = Type::bfloat16;
    input.vocabulary = kVocabulary;
    input.trees = {sessions, offsets.data(), nullptr, nullptr};
    const std::vector<double> min_p(sessions, 0), penalties(sessions, 1);
    input.samplings = {temperatures.data(), top_k.data(), top_p.data(), min_p.data(), penalties.data(), nullptr};
    return useful_threads(input, 4);
}

std::size_t threads_of(std::size_t sessions, const Way& way) { return threads_of(std::vector<Way>(sessions, way)); }

}  // namespace

int main() {
    CHECK(threads_of(1, kTopP) == 1);
    CHECK(threads_of(2, kGreedy) == 1);
    CHECK(threads_of(4, kOpen) == 3);
    CHECK(threads_of(32, kOpen) == 4);
    CHECK(threads_of(2, kTopP) == 2);
    CHECK(threads_of(64, kTopP) == 4);
    CHECK(threads_of({kTopP}, 3) == 3);  // a session's rows are shared out too
    // Others are done with long before the longest.
    CHECK(threads_of({kTopP, kGreedy, kGreedy, kGreedy}) == 1);
}
