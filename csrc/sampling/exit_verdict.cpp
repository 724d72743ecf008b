#include "sampling/exit_verdict.hpp"

#include <algorithm>

namespace edgespec::sampling {

std::size_t Trees::widest() const {
    std::size_t rows = 0;
    for (std::size_t session = 0; session < sessions; ++session) rows = std::max(rows, size(session));
    return rows;
}

std::size_t Trees::child(std::size_t session, std::size_t row, std::int32_t token) const {
    for (std::size_t node = row + 1; node < size(session); ++node) {
        const std::size_t at = first(session) + node;
        if (parents[at] == static_cast<std::int32_t>(row) && tokens[at] == token) return node;
    }
    return 0;
}

double Curve::at(float margin) const {
    const float* above = std::upper_bound(margins, margins + knots, margin);
    if (above == margins) return probabilities[0];
    const auto i = static_cast<std::size_t>(above - margins) - 1;
    if (i + 1 == knots) return probabilities[i];
    const double share =
        (static_cast<double>(margin) - margins[i]) / (static_cast<double>(margins[i + 1]) - margins[i]);
    return probabilities[i] + share * (static_cast<double>(probabilities[i + 1]) - probabilities[i]);
}

Hint exit_verdict(const Trees& trees, std::size_t session, const std::int32_t* decided, const float* margins,
                  const Curve& curve, std::int32_t* path) {
    const std::size_t first = trees.first(session);
    std::size_t row = 0;
    std::int32_t length = 0;
    double confidence = 1;
    while (true) {
        const std::int32_t token = decided[first + row];
        if (token < 0) return {length, -1, 0};
        confidence *= curve.at(margins[first + row]);
        row = trees.child(session, row, token);
        if (row == 0) return {length, token, static_cast<float>(confidence)};
        path[length++] = static_cast<std::int32_t>(row);
    }
}

}  // namespace edgespec::sampling
