// The CPU kernels of exits. They take arrays of just the types that they read; their Python callers in edgespec.kernels
// convert others, and say what is wrong.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using simd::Type;

constexpr std::size_t kMaxRows = 64;

py::tuple exit_head(const py::array& hidden, const py::array& norm, const py::array& head, const std::string& dtype,
                    const py::object& temperatures, const py::object& seeds, const py::object& positions, float epsilon,
                    float logit_scale, float softcap, std::size_t threads, const std::string& tier) {
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
                                        epsilon,
                                        logit_scale,
                                        softcap};
    expect(rows <= kMaxRows, "hidden must have 64 rows at most");
    for (std::size_t row = 0; row < rows; ++row) {
        const float temperature = input.temperatures[row];  // NaN is none
        expect(temperature >= 0 && std::isfinite(temperature), "temperatures must be 0 or more");
        expect(input.positions[row] >= 0, "positions must be 0 or more");
    }
    const simd::Tier& chosen = tier_of(tier);
    std::vector<sampling::ExitHeadRow> said;
    {
        const py::gil_scoped_release release;
        said = sampling::exit_head(input, threads, chosen, ThreadPool::shared());
    }
    return tokens_and_margins(said);
}

std::vector<std::string> simd_tiers() {
    std::vector<std::string> names;
    for (const simd::Tier* const* tier = simd::tiers(); *tier != nullptr; ++tier) names.emplace_back((*tier)->name);
    return names;
}

}  // namespace

void register_kernels(py::module_& module) {
    module.def("simd_tiers", &simd_tiers);
    module.def("exit_head", &exit_head, py::arg("hidden"), py::arg("norm"), py::arg("head"), py::arg("dtype"),
               py::arg("temperatures"), py::arg("seeds"), py::arg("positions"), py::arg("epsilon"),
               py::arg("logit_scale"), py::arg("softcap"), py::arg("threads"), py::arg("tier") = "");
}

}  // namespace edgespec::bindings
