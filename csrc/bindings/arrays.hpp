// Numpy arrays as the kernels want them: nothing is converted, and nothing is read out of bounds.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "sampling/exit_head.hpp"
#include "simd/tier.hpp"

namespace edgespec::bindings {

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

inline void expect(bool holds, const char* what) {
    if (!holds) throw pybind11::value_error(what);
}

template <class T>
Array<T> filled(std::size_t rows, std::size_t columns, T value) {
    Array<T> array({rows, columns});
    std::fill_n(array.mutable_data(), array.size(), value);
    return array;
}

inline simd::Type type_of(const std::string& name) {
    using simd::Type;
    if (name == "float32") return Type::float32;
    if (name == "bfloat16") return Type::bfloat16;
    if (name == "float16") return Type::float16;
    if (name == "float64") return Type::float64;
    throw pybind11::value_error("dtype must be float32, bfloat16, float16 or float64, not " + name);
}

inline const simd::Tier& tier_of(const std::string& name) {
    const simd::Tier* tier = simd::find_tier(name.c_str());
    if (tier == nullptr) throw pybind11::value_error("this processor has no SIMD tier " + name);
    return *tier;
}

// The words of a contiguous matrix whose elements have the size of `type`.
inline const void* matrix(const pybind11::array& array, simd::Type type, std::size_t rows, std::size_t columns,
                          const char* what) {
    expect((array.flags() & pybind11::array::c_style) != 0, what);
    expect(static_cast<std::size_t>(array.itemsize()) == simd::size_of(type), what);
    expect(static_cast<std::size_t>(array.size()) == rows * columns, what);
    return array.data();
}

// A contiguous array [N] of just this type, with its size; the array must outlive it.
template <class T>
const T* words(pybind11::handle array, std::size_t& size) {
    if (!pybind11::isinstance<Array<T>>(array)) throw pybind11::type_error("an array is of another type, or strided");
    const auto own = pybind11::reinterpret_borrow<Array<T>>(array);
    expect(own.ndim() == 1, "an array is not [N]");
    size = static_cast<std::size_t>(own.size());
    return own.data();
}

template <class T>
const T* words_of(pybind11::handle array, std::size_t size, const char* what) {
    std::size_t got = 0;
    const T* data = words<T>(array, got);
    expect(got == size, what);
    return data;
}

// The columns int32 and float32 [R].
inline pybind11::tuple tokens_and_margins(const std::vector<sampling::ExitHeadRow>& rows) {
    Array<std::int32_t> tokens(static_cast<pybind11::ssize_t>(rows.size()));
    Array<float> margins(tokens.size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
        tokens.mutable_data()[row] = rows[row].token;
        margins.mutable_data()[row] = rows[row].margin;
    }
    return pybind11::make_tuple(tokens, margins);
}

}  // namespace edgespec::bindings
