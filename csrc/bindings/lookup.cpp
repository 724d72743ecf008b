#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/register.hpp"
#include "lookup/text_index.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using lookup::TextIndex;

std::int32_t token_at(const py::list& list, std::size_t index) {
    const long token = PyLong_AsLong(PyList_GET_ITEM(list.ptr(), static_cast<py::ssize_t>(index)));
    if (token == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (token < 0 || token > INT32_MAX) throw py::value_error("token ids lie between 0 and 2^31 - 1");
    return static_cast<std::int32_t>(token);
}

// The last tokens of `text` followed by `more`, at most the length of the longest match.
py::tuple find(const TextIndex& index, const py::list& text, const py::list& more) {
    std::array<std::int32_t, TextIndex::kLongestMatch> context;
    const std::size_t behind = std::min(more.size(), context.size());
    const std::size_t before = std::min(text.size(), context.size() - behind);
    for (std::size_t i = 0; i < before; ++i) context[i] = token_at(text, text.size() - before + i);
    for (std::size_t i = 0; i < behind; ++i) context[before + i] = token_at(more, more.size() - behind + i);
    const lookup::Found found = index.find(context.data(), before + behind);
    py::list choices(found.choices.size());
    for (std::size_t i = 0; i < found.choices.size(); ++i) {
        choices[i] = py::make_tuple(found.choices[i].token, found.choices[i].count);
    }
    return py::make_tuple(found.length, found.total, choices);
}

void add(TextIndex& index, const py::list& tokens) {
    std::vector<std::int32_t> ids(tokens.size());
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = token_at(tokens, i);
    index.add(ids.data(), ids.size());
}

}  // namespace

void register_lookup(py::module_& module) {
    auto index = py::class_<TextIndex>(module, "TextIndex");
    index.attr("LONGEST_MATCH") = TextIndex::kLongestMatch;
    index.def(py::init<std::size_t, std::size_t>(), py::arg("most_tokens"), py::arg("shortest_match") = 1)
        .def("add", &add, py::arg("tokens"))
        .def(
            "add_texts",
            [](TextIndex& index, const py::array_t<std::int32_t, py::array::c_style>& tokens) {
                if (tokens.ndim() != 1) throw py::value_error("tokens must have one dimension");
                index.add(tokens.data(), static_cast<std::size_t>(tokens.size()));
            },
            py::arg("tokens").noconvert())
        .def("end_text", [](TextIndex& index) { index.add(&lookup::kTextEnd, 1); })
        .def("find", &find, py::arg("text"), py::arg("more") = py::list())
        .def("clear", &TextIndex::clear)
        .def_property_readonly("bytes", &TextIndex::bytes)
        .def_static("bytes_per_token", &TextIndex::bytes_per_token, py::arg("shortest_match"))
        .def("__len__", &TextIndex::size);
}

}  // namespace edgespec::bindings
