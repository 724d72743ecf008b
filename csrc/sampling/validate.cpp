#include "sampling/validate.hpp"

#include <algorithm>
#include <limits>
#include <sstream>
#include <vector>

namespace edgespec::sampling {

namespace {

constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kTiny = std::numeric_limits<double>::denorm_min();
constexpr double kLargestInt = std::numeric_limits<std::int32_t>::max();

template <class T>
std::string problem(const std::string& name, const char* expected, T got) {
    std::ostringstream words;
    words << name << " must be " << expected << ", not " << got;
    return words.str();
}

// Every value must lie from low to high; NaN lies nowhere.
template <class T>
std::string outside(const char* name, const T* values, std::size_t count, double low, double high,
                    const char* expected) {
    const T* bad = std::find_if_not(values, values + count, [=](T value) { return value >= low && value <= high; });
    return bad == values + count ? std::string() : problem(name, expected, *bad);
}

std::string check_trees(const Trees& trees, std::size_t vocabulary) {
    const auto is_token = [=](std::int32_t token) {
        return token >= 0 && static_cast<std::size_t>(token) < vocabulary;
    };
    for (std::size_t s = 0; s < trees.sessions; ++s) {
        const std::int32_t* parents = trees.parents + trees.first(s);
        const std::int32_t* tokens = trees.tokens + trees.first(s);
        if (parents[0] != -1) return problem("parents", "-1 in a session's first row", parents[0]);
        for (std::size_t row = 1; row < trees.size(s); ++row) {
            if (parents[row] < 0 || parents[row] >= static_cast<std::int64_t>(row)) {
                return problem("parents", "an earlier row of the session", parents[row]);
            }
            if (!is_token(tokens[row])) return problem("tokens", "ids of the vocabulary", tokens[row]);
        }
    }
    return {};
}

std::string check_samplings(const Samplings& how, std::size_t sessions) {
    std::string found = outside("temperatures", how.temperatures, sessions, 0, kLargest, "0 or more, and finite");
    if (found.empty()) found = outside("top_k", how.top_k, sessions, 0, kLargestInt, "0 or more");
    if (found.empty()) found = outside("top_p", how.top_p, sessions, kTiny, 1, "above 0 and at most 1");
    if (found.empty()) found = outside("min_p", how.min_p, sessions, 0, 1, "from 0 to 1");
    if (found.empty()) found = outside("penalties", how.penalties, sessions, kTiny, kLargest, "above 0, and finite");
    return found;
}

std::string check_lists(const std::string& name, const Lists& lists, std::size_t count, std::size_t ids,
                        std::size_t vocabulary) {
    if (lists.offsets == nullptr) return {};
    const std::int32_t* end = lists.offsets + count + 1;
    if (lists.offsets[0] != 0 || static_cast<std::size_t>(end[-1]) != ids || !std::is_sorted(lists.offsets, end)) {
        return problem(name + ".offsets", "rising from 0 to the number of ids", end[-1]);
    }
    std::vector<std::size_t> last_list(ids == 0 ? 0 : vocabulary, count);  // that held each token
    for (std::size_t n = 0; n < count; ++n) {
        for (std::int32_t i = lists.offsets[n]; i < lists.offsets[n + 1]; ++i) {
            const std::int32_t id = lists.ids[i];
            if (id < 0 || static_cast<std::size_t>(id) >= vocabulary) {
                return problem(name + ".ids", "ids of the vocabulary", id);
            }
            std::size_t& last = last_list[static_cast<std::size_t>(id)];
            if (last == n) return problem(name + ".ids", "different within each list", id);
            last = n;
        }
    }
    return {};
}

}  // namespace

std::string validate(const VerifyInput& in, const ListSizes& sizes) {
    const std::size_t sessions = in.trees.sessions, rows = in.trees.first(sessions);
    std::string found = check_trees(in.trees, in.vocabulary);
    if (found.empty()) found = outside("positions", in.positions, rows, 0, kLargestInt, "0 or more");
    if (found.empty()) found = check_samplings(in.samplings, sessions);
    if (found.empty()) found = check_lists("seen", in.seen, rows, sizes.seen, in.vocabulary);
    if (found.empty()) found = check_lists("biases", in.biases, rows, sizes.biases, in.vocabulary);
    if (found.empty()) found = outside("biases.values", in.biases.values, sizes.biases, -kLargest, kLargest, "finite");
    return found;
}

}  // namespace edgespec::sampling
