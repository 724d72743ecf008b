// edgespec._native: the only folder that knows Python. One register function an area.
#include <pybind11/pybind11.h>

#include "bindings/register.hpp"

PYBIND11_MODULE(_native, module) {
    module.doc() = "edgespec's native layer: sampling noise, kernels, the wire format, sockets.";
    edgespec::bindings::register_sampling(module);
    edgespec::bindings::register_kernels(module);
    edgespec::bindings::register_verify(module);
    edgespec::bindings::register_decoder(module);
    edgespec::bindings::register_lookup(module);
    edgespec::bindings::register_wire(module);
    edgespec::bindings::register_tls(module);
    edgespec::bindings::register_net(module);
    edgespec::bindings::register_resilient_connection(module);
    edgespec::bindings::register_mailbox(module);
}
