// The CPU kernels of exits. They take arrays of just the types that they read; their Python callers in edgespec.kernels
// convert others, and say what is wrong.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "sampling/exit_head.hpp"
#include "sampling/exit_verdict.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using simd::Type;

constexpr std::size_t kMaxRows = 64;

sampling::Trees trees_of(const Array<std::int32_t>& offsets, const Array<std::int32_t>& parents,
                         const Array<std::int32_t>& tokens, std::size_t rows) {
    expect(offsets.ndim() == 1 && offsets.size() >= 2, "offsets must be [S + 1]");
    const sampling::Trees trees{static_cast<std::size_t>(offsets.size()) - 1, offsets.data(),
                                column(parents, rows, "parents must be [R]"),
                                column(tokens, rows, "tokens must be [R]")};
    expect(offsets.at(0) == 0 && static_cast<std::size_t>(trees.offsets[trees.sessions]) == rows,
           "offsets must rise from 0 to R");
    for (std::size_t s = 0; s < trees.sessions; ++s) {
        expect(trees.offsets[s] < trees.offsets[s + 1], "offsets must rise from 0 to R");
    }
    return trees;
}

py::tuple exit_head(const py::array& hidden, const py::array& norm, const py::array& head, const std::string& dtype,
                    const py::object& temperatures, const py::object& seeds, const py::object& positions,
                    const py::object& draft_tokens, float epsilon, float logit_scale, float softcap,
                    std::size_t threads, const std::string& tier) {
    const Type type = type_of(dtype);
    expect(type != Type::float64, "dtype must be float32, bfloat16 or float16");
    expect(hidden.ndim() == 2 && norm.ndim() == 1 && head.ndim() == 2 && hidden.size() > 0 && head.size() > 0 &&
               threads > 0,
           "hidden must be [R, D], norm [D] and head [V, D], with one thread or more");
    const auto rows = static_cast<std::size_t>(hidden.shape(0)), dim = static_cast<std::size_t>(hidden.shape(1));
    const auto vocabulary = static_cast<std::size_t>(head.shape(0));
    const sampling::ExitHeadInput input{type,
                                        matrix(hidden, type, rows, dim, "hidden must be [R, D], contiguous"),
                                        matrix(norm, type, 1, dim, "norm must be [D], contiguous"),
                                        matrix(head, type, vocabulary, dim, "head must be [V, D], contiguous"),
                                        rows,
                                        dim,
                                        vocabulary,
                                        words_of<float>(temperatures, rows, "temperatures must be [R]"),
                                        words_of<std::uint64_t>(seeds, rows, "seeds must be [R]"),
                                        words_of<std::int32_t>(positions, rows, "positions must be [R]"),
                                        words_of<std::int32_t>(draft_tokens, rows, "draft_tokens must be [R]"),
                                        epsilon,
                                        logit_scale,
                                        softcap};
    expect(rows <= kMaxRows, "hidden must have 64 rows at most");
    for (std::size_t row = 0; row < rows; ++row) {
        const float temperature = input.temperatures[row];  // NaN is none
        expect(temperature >= 0 && std::isfinite(temperature), "temperatures must be 0 or more");
        expect(input.positions[row] >= 0, "positions must be 0 or more");
        const std::int64_t draft = input.draft_tokens[row];
        expect(draft >= -1 && draft < static_cast<std::int64_t>(vocabulary), "draft_tokens must be ids or -1");
    }
    const simd::Tier& chosen = tier_of(tier);
    std::vector<sampling::ExitHeadRow> said;
    {
        const py::gil_scoped_release release;
        said = sampling::exit_head(input, threads, chosen, ThreadPool::shared());
    }
    const auto size = static_cast<py::ssize_t>(rows);
    Array<std::int32_t> tokens(size);
    Array<float> margins(size), probabilities(size), logsumexps(size), draft_scores(size);
    Array<bool> sound(size);
    for (std::size_t row = 0; row < rows; ++row) {
        tokens.mutable_data()[row] = said[row].token;
        margins.mutable_data()[row] = said[row].margin;
        probabilities.mutable_data()[row] = said[row].probability;
        logsumexps.mutable_data()[row] = said[row].logsumexp;
        draft_scores.mutable_data()[row] = said[row].draft_score;
        sound.mutable_data()[row] = said[row].sound;
    }
    return py::make_tuple(tokens, margins, probabilities, logsumexps, draft_scores, sound);
}

py::tuple exit_verdict(const Array<std::int32_t>& decided, const Array<float>& margins,
                       const Array<std::int32_t>& offsets, const Array<std::int32_t>& parents,
                       const Array<std::int32_t>& tokens, const Array<float>& curve_margins,
                       const Array<float>& curve_probabilities, const Array<std::int32_t>& curve_of) {
    const auto rows = static_cast<std::size_t>(decided.size());
    const sampling::Trees trees = trees_of(offsets, parents, tokens, rows);
    expect(static_cast<std::size_t>(margins.size()) == rows, "margins must be [R]");
    expect(curve_margins.ndim() == 2 && curve_margins.size() > 0 && curve_margins.size() == curve_probabilities.size(),
           "curves must be [C, K], margins as probabilities");
    const std::int32_t* curves = column(curve_of, trees.sessions, "curve_of must be [S]");
    const auto knots = static_cast<std::size_t>(curve_margins.shape(1));
    const std::size_t width = std::max<std::size_t>(1, trees.widest() - 1);
    const auto sessions = static_cast<py::ssize_t>(trees.sessions);
    Array<std::int32_t> lengths(sessions), next(sessions), paths = filled<std::int32_t>(trees.sessions, width, -1);
    Array<float> confidences(sessions);
    for (std::size_t s = 0; s < trees.sessions; ++s) {
        expect(curves[s] >= 0 && curves[s] < curve_margins.shape(0), "curve_of must name curves");
        const std::size_t first = static_cast<std::size_t>(curves[s]) * knots;
        const sampling::Curve curve{knots, curve_margins.data() + first, curve_probabilities.data() + first};
        const sampling::Hint hint =
            sampling::exit_verdict(trees, s, decided.data(), margins.data(), curve, paths.mutable_data() + s * width);
        lengths.mutable_data()[s] = hint.length;
        next.mutable_data()[s] = hint.token;
        confidences.mutable_data()[s] = hint.confidence;
    }
    return py::make_tuple(lengths, paths, next, confidences);
}

}  // namespace

void register_kernels(py::module_& module) {
    module.def(
        "simd_tiers",
        [] {
            std::vector<std::string> names;
            for (const simd::Tier* const* tier = simd::tiers(); *tier != nullptr; ++tier) {
                names.emplace_back((*tier)->name);
            }
            return names;
        },
        "The SIMD tiers that this processor runs, the best first.");
    module.def(
        "exit_head", &exit_head, py::arg("hidden"), py::arg("norm"), py::arg("head"), py::arg("dtype"),
        py::arg("temperatures"), py::arg("seeds"), py::arg("positions"), py::arg("draft_tokens"), py::arg("epsilon"),
        py::arg("logit_scale"), py::arg("softcap"), py::arg("threads"), py::arg("tier") = "",
        "The CPU backend of edgespec.kernels.exit_head. ValueError, TypeError: an argument is not as it wants it.");
    module.def("exit_verdict", &exit_verdict, py::arg("decided").noconvert(), py::arg("margins").noconvert(),
               py::arg("offsets").noconvert(), py::arg("parents").noconvert(), py::arg("tokens").noconvert(),
               py::arg("curve_margins").noconvert(), py::arg("curve_probabilities").noconvert(),
               py::arg("curve_of").noconvert(), "The CPU backend of edgespec.kernels.exit_verdict.");
}

}  // namespace edgespec::bindings
