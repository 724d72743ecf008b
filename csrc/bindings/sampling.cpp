#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "noise/gumbel.hpp"
#include "noise/philox.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using Positions = py::array_t<std::int32_t, py::array::c_style>;
using Rows = py::array_t<float, py::array::c_style>;

void fill_gumbel(std::uint64_t seed, const Positions& positions, Rows& out, std::uint32_t first_token) {
    if (positions.ndim() != 1) throw py::value_error("positions must have one dimension, [P]");
    if (out.ndim() != 2 || out.shape(0) != positions.shape(0)) {
        throw py::value_error("out must have the shape [P, V] with P = len(positions)");
    }
    const auto rows = static_cast<std::size_t>(out.shape(0)), width = static_cast<std::size_t>(out.shape(1));
    if (width > (std::uint64_t{1} << 32) - first_token) throw py::value_error("token ids have 32 bits");
    const std::int32_t* at = positions.data();
    float* to = out.mutable_data();
    const py::gil_scoped_release release;
    for (std::size_t row = 0; row < rows; ++row) {
        noise::fill_gumbel(seed, static_cast<std::uint32_t>(at[row]), first_token, width, to + row * width);
    }
}

}  // namespace

void register_sampling(py::module_& module) {
    module.def("philox4x32_10", &noise::philox4x32_10, py::arg("counter"), py::arg("key"),
               "Philox4x32-10 of a counter (four 32-bit words) under a key (two).");
    module.def("fill_gumbel", &fill_gumbel, py::arg("seed"), py::arg("positions"), py::arg("out").noconvert(),
               py::arg("first_token") = 0,
               "out[p, v] = the Gumbel noise of (seed, positions[p], first_token + v); int32 [P], float32 [P, V].");
}

}  // namespace edgespec::bindings
