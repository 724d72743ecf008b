// A walk down draft trees by the tokens decided after their rows; and the hint it is worth. Shared by the verifier.
#pragma once

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
    std::size_t widest() const;  // rows of the largest session
    // The first child of a session's `row` with this token; 0 where there is none.
    std::size_t child(std::size_t session, std::size_t row, std::int32_t token) const;
};

// Piecewise linear, level beyond its knots: margins [knots] rising, probabilities [knots].
struct Curve {
    std::size_t knots;
    const float *margins, *probabilities;
    double at(float margin) const;
};

struct Hint {
    std::int32_t length, token;  // nodes on the path; the token behind it, -1 where a row on the way is not sound
    float confidence;
};

// path [size of the session - 1] takes the rows of the path. decided, margins [rows]: of all sessions.
Hint exit_verdict(const Trees& trees, std::size_t session, const std::int32_t* decided, const float* margins,
                  const Curve& curve, std::int32_t* path);

}  // namespace edgespec::sampling
