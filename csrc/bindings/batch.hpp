// Many sessions' blocks in one piece, for a server that takes them all in before its next forward.
#pragma once

#include <pybind11/numpy.h>

#include "bindings/waiting.hpp"
#include "net/listener.hpp"

namespace edgespec::bindings {

// What happened: other events first, then blocks, as they came. Block i is from session numbers[i]; its nodes are
// nodes[offsets[i]] up to nodes[offsets[i + 1]], and the first of them has the id first_nodes[i]. A large block comes
// in pieces: following[i] of its nodes are to come.
struct Batch {
    py::list others;
    py::array_t<std::uint64_t> numbers;
    py::array_t<std::uint32_t> first_nodes;
    py::array_t<std::uint32_t> following;
    py::array_t<std::int64_t> offsets;
    py::array nodes;
};

py::object to_python(net::Event&& event);
Batch poll_batch(net::Listener& listener, Seconds timeout_s, std::size_t max_events, std::size_t max_nodes);
void register_batch(py::module_& module);

}  // namespace edgespec::bindings
