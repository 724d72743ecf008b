#include "net/tls.hpp"

#include <pybind11/pybind11.h>

#include "bindings/register.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

void register_tls(py::module_& module) {
    module.attr("HAVE_TLS") = net::kHaveTls;
    py::register_exception<net::TlsError>(module, "TlsError", PyExc_ValueError);
    py::class_<net::Tls, std::shared_ptr<net::Tls>>(module, "Tls")
        .def_static("client", &net::tls_client, py::arg("authority"), py::arg("certificate") = "", py::arg("key") = "")
        .def_static("server", &net::tls_server, py::arg("certificate"), py::arg("key"), py::arg("authority") = "")
        .def_property_readonly("handshakes", [](const net::Tls& self) { return self.handshakes.load(); })
        .def_property_readonly("resumed", [](const net::Tls& self) { return self.resumed.load(); });
}

}  // namespace edgespec::bindings
