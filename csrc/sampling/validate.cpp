#include "sampling/validate.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace edgespec::sampling {

namespace {

constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kTiny = std::numeric_limits<double>::denorm_min();

// NaN is nowhere inside.
template <class T>
bool inside(const T* values, std::size_t count, double low, double high) {
    return std::all_of(values, values + count, [=](T value) { return value >= low && value <= high; });
}

bool are_trees(const Trees& trees, std::size_t vocabulary) {
    const auto tokens = static_cast<std::int64_t>(vocabulary);
    for (std::size_t s = 0; s < trees.sessions; ++s) {
        const std::int32_t* parents = trees.parents + trees.first(s);
        const std::int32_t* own = trees.tokens + trees.first(s);
        if (parents[0] != -1 || own[0] < -1 || own[0] >= tokens) return false;
        for (std::size_t row = 1; row < trees.size(s); ++row) {
            if (parents[row] < 0 || parents[row] >= static_cast<std::int64_t>(row)) return false;
            if (own[row] < 0 || own[row] >= tokens) return false;
        }
    }
    return true;
}

bool are_samplings(const Samplings& how, std::size_t sessions) {
    return inside(how.temperatures, sessions, 0, kLargest) &&
           inside(how.top_k, sessions, 0, std::numeric_limits<std::int32_t>::max()) &&
           inside(how.top_p, sessions, kTiny, 1) && inside(how.min_p, sessions, 0, 1) &&
           inside(how.penalties, sessions, kTiny, kLargest);
}

bool are_lists(const Lists& lists, std::size_t count, std::size_t ids, std::size_t vocabulary) {
    if (lists.offsets == nullptr) return true;
    if (lists.offsets[0] != 0 || static_cast<std::size_t>(lists.offsets[count]) != ids) return false;
    if (!std::is_sorted(lists.offsets, lists.offsets + count + 1)) return false;
    if (!inside(lists.ids, ids, 0, static_cast<double>(vocabulary) - 1)) return false;
    std::vector<std::size_t> last_list(ids == 0 ? 0 : vocabulary, count);  // that held each token
    for (std::size_t n = 0; n < count; ++n) {
        for (std::int32_t i = lists.offsets[n]; i < lists.offsets[n + 1]; ++i) {
            std::size_t& last = last_list[static_cast<std::size_t>(lists.ids[i])];
            if (last == n) return false;
            last = n;
        }
    }
    return true;
}

}  // namespace

const char* validate(const VerifyInput& in, const ListSizes& sizes) {
    const std::size_t sessions = in.trees.sessions, rows = in.trees.first(sessions);
    if (!are_trees(in.trees, in.vocabulary)) return "the trees' parents or tokens";
    if (!inside(in.positions, rows, 0, std::numeric_limits<std::int32_t>::max())) return "positions";
    if (!are_samplings(in.samplings, sessions)) return "samplings";
    if (!are_lists(in.seen, rows, sizes.seen, in.vocabulary)) return "seen";
    if (!are_lists(in.biases, sessions, sizes.biases, in.vocabulary)) return "biases";
    if (!inside(in.biases.values, sizes.biases, -kLargest, kLargest)) return "the biases' values";
    return nullptr;
}

}  // namespace edgespec::sampling
