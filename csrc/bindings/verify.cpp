// The CPU backend of `verify`. It takes arrays of just the types that the kernel reads, which its caller in
// edgespec.kernels has checked, and checks what they hold.
#include "sampling/verify.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "sampling/validate.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

void expect_length(const py::tuple& tuple, std::size_t length) {
    expect(tuple.size() == length, "a tuple of arrays has another length");
}

sampling::Trees trees_of(const py::tuple& arrays, std::size_t rows) {
    expect_length(arrays, 4);
    std::size_t size = 0;
    const auto* offsets = words<std::int32_t>(arrays[0], size);
    expect(size >= 2, "offsets must be [S + 1]");
    const sampling::Trees trees{size - 1, offsets, words_of<std::int32_t>(arrays[1], rows, "parents must be [R]"),
                                words_of<std::int32_t>(arrays[2], rows, "tokens must be [R]")};
    expect(offsets[0] == 0 && static_cast<std::size_t>(offsets[trees.sessions]) == rows,
           "offsets must rise from 0 to R");
    for (std::size_t s = 0; s < trees.sessions; ++s)
        expect(offsets[s] < offsets[s + 1], "offsets must rise from 0 to R");
    return trees;
}

sampling::Samplings samplings_of(const py::tuple& arrays, std::size_t sessions) {
    expect_length(arrays, 6);
    constexpr const char* kWhat = "samplings must be [S]";
    return {words_of<double>(arrays[0], sessions, kWhat), words_of<std::int32_t>(arrays[1], sessions, kWhat),
            words_of<double>(arrays[2], sessions, kWhat), words_of<double>(arrays[3], sessions, kWhat),
            words_of<double>(arrays[4], sessions, kWhat), words_of<std::uint64_t>(arrays[5], sessions, kWhat)};
}

// None: no list has an id.
sampling::Lists lists_of(const py::object& given, std::size_t lists, bool valued, std::size_t& ids) {
    ids = 0;
    if (given.is_none()) return {nullptr, nullptr, nullptr};
    const auto arrays = py::reinterpret_borrow<py::tuple>(given);
    expect_length(arrays, valued ? 3 : 2);
    sampling::Lists found{words_of<std::int32_t>(arrays[0], lists + 1, "offsets must be one more than lists"),
                          words<std::int32_t>(arrays[1], ids), nullptr};
    if (valued) found.values = words_of<float>(arrays[2], ids, "each id needs a value");
    return found;
}

// Throws value_error for what does not fit.
sampling::VerifyInput checked(simd::Type type, const void* logits, std::size_t rows, std::size_t vocabulary,
                              const py::tuple& trees, const py::tuple& samplings, const py::object& seen,
                              const py::object& biases) {
    const sampling::Trees own_trees = trees_of(trees, rows);
    sampling::ListSizes sizes{};
    const sampling::VerifyInput input{type,
                                      logits,
                                      vocabulary,
                                      own_trees,
                                      words_of<std::int32_t>(trees[3], rows, "positions must be [R]"),
                                      samplings_of(samplings, own_trees.sessions),
                                      lists_of(seen, rows, false, sizes.seen),
                                      lists_of(biases, rows, true, sizes.biases)};
    if (const std::string what = sampling::validate(input, sizes); !what.empty()) throw py::value_error(what);
    return input;
}

void check_verify(std::size_t rows, std::size_t vocabulary, const py::tuple& trees, const py::tuple& samplings,
                  const py::object& seen, const py::object& biases) {
    checked(simd::Type::float32, nullptr, rows, vocabulary, trees, samplings, seen, biases);
}

py::tuple verify(const py::array& logits, const std::string& dtype, const py::tuple& trees, const py::tuple& samplings,
                 const py::object& seen, const py::object& biases, std::size_t threads, bool as_they_pay,
                 const std::string& tier) {
    const simd::Type type = type_of(dtype);
    expect(logits.ndim() == 2 && logits.size() > 0 && threads > 0, "logits must be [R, V], with one thread or more");
    const auto rows = static_cast<std::size_t>(logits.shape(0)), vocabulary = static_cast<std::size_t>(logits.shape(1));
    const void* words = matrix(logits, type, rows, vocabulary, "logits must be [R, V], contiguous");
    const sampling::VerifyInput input = checked(type, words, rows, vocabulary, trees, samplings, seen, biases);
    const sampling::Trees& own_trees = input.trees;
    const std::size_t sessions = own_trees.sessions;
    const std::size_t path_width = std::max<std::size_t>(1, own_trees.widest() - 1);
    const auto count = static_cast<py::ssize_t>(rows);
    Array<std::int32_t> lengths(static_cast<py::ssize_t>(sessions)), choices(count);
    Array<std::int32_t> paths = filled<std::int32_t>(sessions, path_width, -1);
    Array<float> logprobs(count), margins(count);
    const sampling::VerifyOutput output{path_width,
                                        lengths.mutable_data(),
                                        paths.mutable_data(),
                                        choices.mutable_data(),
                                        logprobs.mutable_data(),
                                        margins.mutable_data()};
    const simd::Tier& chosen = tier_of(tier);
    {
        const py::gil_scoped_release release;
        const std::size_t useful = as_they_pay ? sampling::useful_threads(input, threads) : threads;
        sampling::verify(input, output, useful, chosen, ThreadPool::shared());
    }
    return py::make_tuple(lengths, paths, choices, logprobs, margins);
}

}  // namespace

void register_verify(py::module_& module) {
    module.def("verify", &verify, py::arg("logits"), py::arg("dtype"), py::arg("trees"), py::arg("samplings"),
               py::arg("seen"), py::arg("biases"), py::arg("threads"), py::arg("as_they_pay"), py::arg("tier") = "",
               "The CPU backend of edgespec.kernels.verify. ValueError, TypeError: an argument does not fit.");
    module.def(
        "check_verify", &check_verify, py::arg("rows"), py::arg("vocabulary"), py::arg("trees"), py::arg("samplings"),
        py::arg("seen"), py::arg("biases"),
        "The checks of `verify` alone, for the other backends. ValueError, TypeError: an argument does not fit.");
}

}  // namespace edgespec::bindings
