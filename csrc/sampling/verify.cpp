#include "sampling/verify.hpp"

#include <cmath>
#include <limits>

#include "sampling/filters.hpp"
#include "sampling/gumbel.hpp"
#include "sampling/parallel.hpp"

namespace edgespec::sampling {

namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

struct Decision {
    std::int32_t token;  // -1: the row is not sound
    float logprob, margin;
};

// Decides rows one at a time, on vectors of its own. T: of the scores.
template <class T>
class RowDecider {
 public:
    RowDecider(const VerifyInput& in, const Level& level)
        : in_(in),
          level_(level),
          loops_(level.loops<T>()),
          filters_(level),
          raw_(in.vocabulary),
          scores_(in.vocabulary) {}

    Decision decide(std::size_t session, std::size_t row, std::int32_t child_token) {
        read(row);
        const Mass<T> mass = mass_of(raw_);
        const double logsumexp = mass.top + std::log(mass.sum);
        if (!std::isfinite(logsumexp)) return {-1, kNone, kNone};
        scores_ = raw_;
        penalise(session, row);
        const Choice<T> choice = choose(session, row, child_token);
        if (choice.token < 0) return {-1, kNone, kNone};
        return {choice.token, static_cast<float>(raw_[static_cast<std::size_t>(choice.token)] - logsumexp),
                static_cast<float>(choice.best - choice.second)};
    }

 private:
    void read(std::size_t row) {
        const void* from = static_cast<const char*>(in_.logits) + row * in_.vocabulary * size_of(in_.type);
        if constexpr (sizeof(T) == sizeof(double)) {
            const auto* doubles = static_cast<const double*>(from);
            raw_.assign(doubles, doubles + in_.vocabulary);
        } else {
            level_.widen(in_.type, from, in_.vocabulary, raw_.data());
        }
    }

    Mass<T> mass_of(const std::vector<T>& z) const {
        Mass<T> mass{std::numeric_limits<T>::lowest(), 0};
        loops_.add_mass(z.data(), z.size(), mass);
        return mass;
    }

    void penalise(std::size_t session, std::size_t row) {
        for (auto i = in_.biases.offsets[session]; i < in_.biases.offsets[session + 1]; ++i) {
            scores_[static_cast<std::size_t>(in_.biases.ids[i])] += static_cast<T>(in_.biases.values[i]);
        }
        const T penalty = static_cast<T>(in_.samplings.penalties[session]);
        if (penalty == 1) return;
        for (auto i = in_.seen.offsets[row]; i < in_.seen.offsets[row + 1]; ++i) {
            T& score = scores_[static_cast<std::size_t>(in_.seen.ids[i])];
            score = score < 0 ? score * penalty : score / penalty;
        }
    }

    Choice<T> choose(std::size_t session, std::size_t row, std::int32_t child_token) {
        const Samplings& how = in_.samplings;
        const T temperature = static_cast<T>(how.temperatures[session]);
        if (temperature == 0) return best(session, row, false, kGumbelStream);
        if (temperature != 1) loops_.divide(scores_.data(), scores_.size(), temperature);
        filters_.apply(scores_.data(), scores_.size(), {how.top_k[session], how.top_p[session], how.min_p[session]});
        if (!how.rejection[session]) return best(session, row, true, kGumbelStream);
        Choice<T> choice;
        if (child_token < 0) {
            choice = best(session, row, true, kGumbelStream);
        } else if (accepts(session, row, child_token)) {
            choice.token = child_token;
        } else {
            choice = best(session, row, true, kResidualStream);
            if (choice.token < 0) choice.token = child_token;  // p and q are equal but for rounding
        }
        choice.best = choice.second = std::numeric_limits<T>::quiet_NaN();
        return choice;
    }

    Choice<T> best(std::size_t session, std::size_t row, bool noisy, std::uint32_t stream) const {
        Choice<T> choice{-std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(), -1};
        const Noise noise{noisy, in_.samplings.seeds[session], static_cast<std::uint32_t>(in_.positions[row]), stream};
        loops_.choose(scores_.data(), scores_.size(), 0, noise, choice);
        return choice;
    }

    // Whether the child's token is accepted, with chance min(1, p / q); else the scores become those of the residual
    // max(0, p - q).
    bool accepts(std::size_t session, std::size_t row, std::int32_t child_token) {
        const Mass<T> mass = mass_of(scores_);
        const double logsumexp = mass.top + std::log(mass.sum);
        const auto p_of = [&](std::size_t id) { return std::exp(scores_[id] - logsumexp); };
        double q = 0;
        const auto begin = in_.drafted.offsets[row], end = in_.drafted.offsets[row + 1];
        for (auto i = begin; i < end; ++i) {
            if (in_.drafted.ids[i] == child_token) q = in_.drafted.values[i];
        }
        const auto position = static_cast<std::uint32_t>(in_.positions[row]);
        const double u = uniform(noise_word(in_.samplings.seeds[session], position, kUniformStream, 0));
        if (u * q < p_of(static_cast<std::size_t>(child_token))) return true;
        for (auto i = begin; i < end; ++i) {
            const auto id = static_cast<std::size_t>(in_.drafted.ids[i]);
            const double rest = p_of(id) - in_.drafted.values[i];
            scores_[id] = rest > 0 ? static_cast<T>(std::log(rest) + logsumexp) : -std::numeric_limits<T>::infinity();
        }
        return false;
    }

    const VerifyInput& in_;
    const Level& level_;
    const RowLoops<T>& loops_;
    Filters<T> filters_;
    std::vector<T> raw_, scores_;
};

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
