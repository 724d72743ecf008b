#pragma once

#include <pybind11/pybind11.h>

namespace edgespec::net {
struct Received;
}

namespace edgespec::bindings {

void register_sampling(pybind11::module_& module);
void register_kernels(pybind11::module_& module);
void register_verify(pybind11::module_& module);
void register_decoder(pybind11::module_& module);
void register_lookup(pybind11::module_& module);
void register_wire(pybind11::module_& module);
void register_messages(pybind11::module_& module);
void register_tls(pybind11::module_& module);
void register_net(pybind11::module_& module);
void register_resilient_connection(pybind11::module_& module);
void register_mailbox(pybind11::module_& module);

// A received message as the Python object of its class; its arrays view the receive buffer and keep it alive.
pybind11::object to_python(net::Received&& received);

}  // namespace edgespec::bindings
