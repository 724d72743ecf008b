#pragma once

#include <pybind11/pybind11.h>

#include "net/listener.hpp"

namespace edgespec::bindings {

using ListenerClass = pybind11::class_<net::Listener, std::shared_ptr<net::Listener>>;

// With its constructor alone.
ListenerClass register_listener(pybind11::module_& module);

}  // namespace edgespec::bindings
