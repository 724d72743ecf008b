#include "net/resilient_connection.hpp"

#include "bindings/living.hpp"
#include "bindings/waiting.hpp"

namespace edgespec::bindings {

namespace {

using Link = net::ResilientConnection;
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

py::object receive(Link& link, Seconds timeout_s) {
    auto arrival = link.inbox().take();
    if (!arrival && !(timeout_s && *timeout_s <= 0 && !link.dead())) {
        wait(link, timeout_s);
        arrival = link.inbox().take();
    }
    if (arrival) return to_python(std::move(*arrival));
    if (link.dead()) throw net::Disconnection(link.reason());
    return py::none();
}

std::vector<net::Address> servers_at(const std::vector<HostPort>& addresses, const std::string& tls_name) {
    std::vector<net::Address> servers;
    for (const auto& [host, port] : addresses) servers.push_back({host, port, tls_name});
    return servers;
}

std::shared_ptr<Link> make(const std::vector<HostPort>& addresses, const py::bytes& hello, bool hedge, double timeout_s,
                           double dead_after_s, double give_up_s, Seconds offline_after_s,
                           std::shared_ptr<net::Tls> tls, const std::string& tls_name, bool busy_spin) {
    if (addresses.empty()) throw py::value_error("a connection needs an address");
    net::ResilientConnectionLimits limits;
    limits.link = link_limits(dead_after_s);
    limits.hedge = hedge;
    limits.busy_spin = busy_spin;
    limits.first_contact = milliseconds(timeout_s);
    limits.outage.give_up_after = milliseconds(give_up_s);
    if (offline_after_s)
        limits.outage.offline_after = std::max(milliseconds(*offline_after_s), std::chrono::milliseconds(1));
    auto servers = servers_at(addresses, tls_name);
    auto frame = frame_from(hello);
    return make_living([&] { return net::connect(std::move(servers), std::move(frame), limits, std::move(tls)); });
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
    py::class_<net::Astray>(module, "Astray").def_property_readonly("address", [](const net::Astray& self) {
        return pair_of(self.address);
    });
    py::class_<net::OtherTarget>(module, "OtherTarget")
        .def_readonly("target_id", &net::OtherTarget::target_id)
        .def_property_readonly("address", [](const net::OtherTarget& self) { return pair_of(self.address); });
    py::class_<net::Woken>(module, "Woken");
    py::class_<net::GivenUp>(module, "GivenUp").def_readonly("reason", &net::GivenUp::reason);
}

}  // namespace

void register_resilient_connection(py::module_& module) {
    py::register_exception<net::Disconnection>(module, "Disconnection", PyExc_ConnectionError);
    register_events(module);
    py::class_<Link, std::shared_ptr<Link>> link(module, "ResilientConnection");
    add_traffic(link);
    link.def(py::init(&make), py::arg("addresses"), py::arg("hello"), py::kw_only(), py::arg("hedge") = true,
             py::arg("timeout_s") = 10.0, py::arg("dead_after_s") = 2.5, py::arg("give_up_s") = 30.0,
             py::arg("offline_after_s") = py::none(), py::arg("tls") = py::none(), py::arg("tls_name") = "",
             py::arg("busy_spin") = false)
        .def(
            "open", [](Link& self, const py::bytes& frame) { self.open(frame_from(frame)); }, py::arg("frame"))
        .def(
            "send", [](Link& self, const py::bytes& frame) { self.send(frame_from(frame)); }, py::arg("frame"))
        .def(
            "ask", [](Link& self, const py::bytes& frame) { self.ask(frame_from(frame)); }, py::arg("frame"))
        .def("receive", &receive, py::arg("timeout_s"))
        .def("move", &Link::move)
        .def(
            "set_servers",
            [](Link& self, const std::vector<HostPort>& others, const std::string& tls_name) {
                self.set_servers(servers_at(others, tls_name));
            },
            py::arg("others"), py::arg("tls_name") = "")
        .def("wake", &Link::wake)
        .def("await_verdicts", &Link::await, py::arg("awaited"))
        .def("close", &Link::close)
        .def("fileno", [](Link& self) { return self.inbox().descriptor(); })
        .def_property_readonly("dead", &Link::dead)
        .def_property_readonly("lost", &Link::lost)
        .def_property_readonly("paths", &Link::paths)
        .def_property_readonly("welcomed", &Link::welcomed)
        .def_property_readonly("address", [](const Link& self) { return pair_of(self.address()); })
        .def_property_readonly("bytes_sent", [](const Link& self) { return self.counters().bytes_sent.load(); })
        .def_property_readonly("bytes_received", [](const Link& self) { return self.counters().bytes_received.load(); })
        .def_property_readonly("rtt_ms", [](const Link& self) { return known_ms(self.counters().rtt_ms.load()); })
        .def_property_readonly("jitter_ms", [](const Link& self) { return self.counters().jitter_ms.load(); });
    end_living_at_exit(&Link::end);
}

}  // namespace edgespec::bindings
