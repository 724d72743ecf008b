#include "net/resilient_connection.hpp"

#include "bindings/living.hpp"
#include "bindings/waiting.hpp"
#include "net/connection.hpp"

namespace edgespec::bindings {

namespace {

using HostPort = std::pair<std::string, std::uint16_t>;

HostPort pair_of(const net::Address& address) { return {address.host, address.port}; }

py::object to_python(net::Arrival&& arrival) {
    return std::visit(
        [](auto&& alternative) -> py::object {
            using What = std::decay_t<decltype(alternative)>;
            if constexpr (std::is_same_v<What, net::Received>) {
                return bindings::to_python(std::move(alternative));
            } else {
                return py::cast(std::move(alternative));
            }
        },
        std::move(arrival));
}

py::object receive(net::ResilientConnection& resilient_connection, Seconds timeout_s) {
    auto arrival = resilient_connection.inbox().take();
    if (!arrival && !(timeout_s && *timeout_s <= 0 && !resilient_connection.dead())) {
        wait(resilient_connection.loop(), timeout_s);
        arrival = resilient_connection.inbox().take();
    }
    if (arrival) return to_python(std::move(*arrival));
    if (resilient_connection.dead()) throw net::Disconnection(resilient_connection.reason());
    return py::none();
}

std::shared_ptr<net::ResilientConnection> make(const std::vector<HostPort>& addresses, const py::bytes& hello,
                                               bool hedge, double timeout_s, double dead_after_s, double give_up_s,
                                               Seconds offline_after_s, std::shared_ptr<net::Tls> tls, bool busy_spin) {
    if (addresses.empty()) throw py::value_error("a resilient_connection needs an address");
    std::vector<net::Address> servers;
    for (const auto& [host, port] : addresses) servers.push_back({host, port});
    net::ResilientConnectionLimits limits;
    limits.link = link_limits(dead_after_s);
    limits.hedge = hedge;
    limits.busy_spin = busy_spin;
    limits.first_contact = milliseconds(timeout_s);
    limits.outage.give_up_after = milliseconds(give_up_s);
    if (offline_after_s)
        limits.outage.offline_after = std::max(milliseconds(*offline_after_s), std::chrono::milliseconds(1));
    return make_living<net::ResilientConnection>(std::move(servers), frame_from(hello), limits, std::move(tls));
}

void register_events(py::module_& module) {
    py::class_<net::Lost>(module, "Lost").def_readonly("reason", &net::Lost::reason);
    py::class_<net::Reconnected>(module, "Reconnected")
        .def_readonly("seconds", &net::Reconnected::seconds)
        .def_property_readonly("address", [](const net::Reconnected& self) { return pair_of(self.address); });
    py::class_<net::Forgotten>(module, "Forgotten")
        .def_readonly("seconds", &net::Forgotten::seconds)
        .def_property_readonly("address", [](const net::Forgotten& self) { return pair_of(self.address); });
    py::class_<net::Offline>(module, "Offline");
    py::class_<net::GivenUp>(module, "GivenUp").def_readonly("reason", &net::GivenUp::reason);
}

}  // namespace

void register_resilient_connection(py::module_& module) {
    register_events(module);
    py::class_<net::ResilientConnection, std::shared_ptr<net::ResilientConnection>>(module, "ResilientConnection")
        .def(py::init(&make), py::arg("addresses"), py::arg("hello"), py::kw_only(), py::arg("hedge") = true,
             py::arg("timeout_s") = 10.0, py::arg("dead_after_s") = 2.5, py::arg("give_up_s") = 30.0,
             py::arg("offline_after_s") = py::none(), py::arg("tls") = py::none(), py::arg("busy_spin") = false)
        .def(
            "open", [](net::ResilientConnection& self, const py::bytes& frame) { self.open(frame_from(frame)); },
            py::arg("frame"))
        .def(
            "send", [](net::ResilientConnection& self, const py::bytes& frame) { self.send(frame_from(frame)); },
            py::arg("frame"))
        .def("receive", &receive, py::arg("timeout_s"))
        .def("move", &net::ResilientConnection::move)
        .def("await_verdicts", &net::ResilientConnection::await, py::arg("awaited"))
        .def("close", &net::ResilientConnection::close)
        .def("fileno", [](net::ResilientConnection& self) { return self.inbox().descriptor(); })
        .def_property_readonly("dead", &net::ResilientConnection::dead)
        .def_property_readonly("lost", &net::ResilientConnection::lost)
        .def_property_readonly("paths", &net::ResilientConnection::paths)
        .def_property_readonly("welcomed", &net::ResilientConnection::welcomed)
        .def_property_readonly("address", [](const net::ResilientConnection& self) { return pair_of(self.address()); })
        .def_property_readonly("bytes_sent",
                               [](const net::ResilientConnection& self) { return self.counters().bytes_sent.load(); })
        .def_property_readonly(
            "bytes_received",
            [](const net::ResilientConnection& self) { return self.counters().bytes_received.load(); })
        .def_property_readonly("frames_sent",
                               [](const net::ResilientConnection& self) { return self.traffic().sent.load(); })
        .def_property_readonly("frames_hedged",
                               [](const net::ResilientConnection& self) { return self.traffic().hedged.load(); })
        .def_property_readonly("frames_resent",
                               [](const net::ResilientConnection& self) { return self.traffic().resent.load(); })
        .def_property_readonly("repeats_received",
                               [](const net::ResilientConnection& self) { return self.traffic().repeats.load(); })
        .def_property_readonly("rtt_ms",
                               [](const net::ResilientConnection& self) -> std::optional<double> {
                                   const double rtt_ms = self.counters().rtt_ms.load();
                                   return rtt_ms < 0 ? std::nullopt : std::optional<double>(rtt_ms);
                               })
        .def_property_readonly("jitter_ms",
                               [](const net::ResilientConnection& self) { return self.counters().jitter_ms.load(); });
    py::module_::import("atexit").attr("register")(
        py::cpp_function([] { end_living(&net::ResilientConnection::end); }));
}

}  // namespace edgespec::bindings
