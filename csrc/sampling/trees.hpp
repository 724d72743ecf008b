// Draft trees, as a verdict walks down them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace edgespec::sampling {

// A ragged batch: session s owns the rows offsets[s] .. offsets[s + 1]; its first row is the committed text, every
// other a node. Parents count from the session's first row and come before their children.
struct Trees {
    std::size_t sessions;
    const std::int32_t* offsets;  // [sessions + 1]
    const std::int32_t* parents;  // [rows]
    const std::int32_t* tokens;   // [rows]

    std::size_t first(std::size_t session) const { return static_cast<std::size_t>(offsets[session]); }
    std::size_t size(std::size_t session) const { return first(session + 1) - first(session); }

    // The session that owns a row.
    std::size_t session_of(std::size_t row) const {
        const auto* behind = std::upper_bound(offsets, offsets + sessions, static_cast<std::int32_t>(row));
        return static_cast<std::size_t>(behind - offsets) - 1;
    }

    // Rows of the largest session.
    std::size_t widest() const {
        std::size_t rows = 0;
        for (std::size_t session = 0; session < sessions; ++session) rows = std::max(rows, size(session));
        return rows;
    }

    // The first child of a session's `row` with this token; 0 where there is none.
    std::size_t child(std::size_t session, std::size_t row, std::int32_t token) const {
        for (std::size_t node = row + 1; node < size(session); ++node) {
            const std::size_t at = first(session) + node;
            if (parents[at] == static_cast<std::int32_t>(row) && tokens[at] == token) return node;
        }
        return 0;
    }
};

}  // namespace edgespec::sampling
