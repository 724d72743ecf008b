#include "sampling/verify.hpp"

#include "sampling/parallel.hpp"
#include "sampling/row_decider.hpp"

namespace edgespec::sampling {

namespace {

template <class T>
void verify_session(RowDecider<T>& decider, const VerifyInput& in, const VerifyOutput& out, std::size_t session) {
    const Trees& trees = in.trees;
    const std::size_t first = trees.first(session);
    std::size_t row = 0;
    std::int32_t length = 0;
    while (true) {
        const std::size_t any_child = in.samplings.rejection[session] ? trees.child(session, row) : 0;
        const Decision decision =
            decider.decide(session, first + row, any_child == 0 ? -1 : trees.tokens[first + any_child]);
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
void verify_all(const VerifyInput& in, const VerifyOutput& out, std::size_t threads, const Level& level) {
    parallel_for(in.trees.sessions, threads, [&] {
        return [&, decider = RowDecider<T>(in, level)](std::size_t session) mutable {
            verify_session(decider, in, out, session);
        };
    });
}

}  // namespace

void verify(const VerifyInput& input, const VerifyOutput& output, std::size_t threads, const Level& level) {
    if (input.type == Type::float64) {
        verify_all<double>(input, output, threads, level);
    } else {
        verify_all<float>(input, output, threads, level);
    }
}

}  // namespace edgespec::sampling
