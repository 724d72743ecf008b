#include <pybind11/stl.h>

#include "bindings/batch.hpp"
#include "bindings/listener.hpp"
#include "bindings/living.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

py::list poll(net::Listener& listener, Seconds timeout_s, std::size_t max_events) {
    py::list events;
    auto event = listener.inbox().take();
    if (!event && !(timeout_s && *timeout_s <= 0)) {
        wait(listener, timeout_s);
        event = listener.inbox().take();
    }
    while (event) {
        const std::uint64_t number = event->number;
        events.append(py::make_tuple(number, to_python(std::move(*event))));
        if (events.size() >= max_events) break;
        event = listener.inbox().take();
    }
    return events;
}

}  // namespace

void register_net(py::module_& module) {
    py::class_<net::Connected>(module, "Connected")
        .def_readonly("address", &net::Connected::address)
        .def_readonly("certificate", &net::Connected::certificate);
    py::class_<net::Disconnected>(module, "Disconnected").def_readonly("reason", &net::Disconnected::reason);
    py::class_<net::Away>(module, "Away").def_readonly("reason", &net::Away::reason);
    py::class_<net::Returned>(module, "Returned");
    register_batch(module);

    ListenerClass listener = register_listener(module);
    add_traffic(listener);
    listener.def_property_readonly("port", &net::Listener::port)
        .def_property_readonly("leased_bytes", [](const net::Listener& self) { return self.pool().leased_bytes(); })
        .def_property_readonly("most_leased_bytes", [](const net::Listener& self) { return self.pool().most_bytes(); })
        .def("poll", &poll, py::arg("timeout_s"), py::arg("max_events") = 256)
        .def("poll_batch", &poll_batch, py::arg("timeout_s"), py::arg("max_events") = 1024,
             py::arg("max_nodes") = 1u << 16)
        .def(
            "welcome",
            [](net::Listener& self, std::uint64_t connection, const py::bytes& frame, const py::bytes& identity) {
                return self.welcome(connection, frame_from(frame), identity);
            },
            py::arg("connection"), py::arg("frame"), py::arg("identity"))
        .def(
            "send",
            [](net::Listener& self, std::uint64_t number, const py::bytes& frame) {
                return self.send(number, frame_from(frame));
            },
            py::arg("number"), py::arg("frame"))
        .def(
            "identity",
            [](const net::Listener& self, std::uint64_t session) -> std::optional<py::bytes> {
                const auto identity = self.identity(session);
                return identity ? std::optional<py::bytes>(*identity) : std::nullopt;
            },
            py::arg("session"))
        .def("rtt_ms", &net::Listener::rtt_ms, py::arg("session"))
        .def("set_tls", &net::Listener::set_tls, py::arg("tls"))
        .def("disconnect", &net::Listener::disconnect, py::arg("number"))
        .def("wake", &net::Listener::wake)
        .def("close", &net::Listener::close, py::call_guard<py::gil_scoped_release>());
    end_living_at_exit(&net::Listener::close);
}

}  // namespace edgespec::bindings
