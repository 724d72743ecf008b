#include <pybind11/stl.h>

#include "bindings/batch.hpp"
#include "bindings/living.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

py::list poll(net::Listener& listener, Seconds timeout_s, std::size_t max_events) {
    py::list events;
    auto event = listener.inbox().take();
    if (!event && !(timeout_s && *timeout_s <= 0)) {
        wait(listener.loop(), timeout_s);
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

using PerSecondAndBurst = std::pair<double, double>;

const PerSecondAndBurst kOpens{50, 512};
const PerSecondAndBurst kTurns{20, 64};
const PerSecondAndBurst kTunes{100, 200};
const PerSecondAndBurst kArrivals{100, 512};
const PerSecondAndBurst kFrames{10'000, 20'000};

net::RateLimit rate(const PerSecondAndBurst& pair) { return {pair.first, pair.second}; }

std::shared_ptr<net::Listener> make_listener(const std::string& host, std::uint16_t port, int backlog,
                                             double dead_after_s, std::size_t slabs, std::shared_ptr<net::Tls> tls,
                                             std::size_t connections, std::size_t connections_of_address,
                                             double hello_within_s, double frame_within_s, PerSecondAndBurst opens,
                                             PerSecondAndBurst turns, bool busy_spin, std::size_t session_bytes,
                                             std::size_t early_frames, std::size_t early_bytes, PerSecondAndBurst tunes,
                                             std::size_t strangers, std::size_t strangers_of_address,
                                             PerSecondAndBurst arrivals, PerSecondAndBurst device_frames) {
    net::ListenerLimits limits;
    limits.link = link_limits(dead_after_s);
    limits.link.frame_within = milliseconds(frame_within_s);
    limits.link.queued_bytes = 1u << 20;
    limits.backlog = backlog;
    limits.slabs = slabs;
    limits.connections = connections;
    limits.connections_of_address = connections_of_address;
    limits.hello_within = milliseconds(hello_within_s);
    limits.sessions.opens = rate(opens);
    limits.sessions.turns = rate(turns);
    limits.sessions.tunes = rate(tunes);
    limits.strangers = {strangers, strangers_of_address, rate(arrivals)};
    limits.device.frames = rate(device_frames);
    limits.busy_spin = busy_spin;
    limits.sessions.session_bytes = session_bytes;
    limits.sessions.early_frames = early_frames;
    limits.sessions.early_bytes = early_bytes;
    try {
        return make_living<net::Listener>(host, port, limits, std::move(tls));
    } catch (const net::SystemError& error) {
        throw net::Disconnection(error.code().message());
    }
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

    py::class_<net::Listener, std::shared_ptr<net::Listener>> listener(module, "Listener");
    add_traffic(listener);
    listener
        .def(py::init(&make_listener), py::arg("host"), py::arg("port"), py::arg("backlog") = 128,
             py::arg("dead_after_s") = 3.0, py::arg("slabs") = 4096, py::arg("tls") = py::none(),
             py::arg("connections") = 2048, py::arg("connections_of_address") = 512, py::arg("hello_within_s") = 5.0,
             py::arg("frame_within_s") = 10.0, py::arg("opens") = kOpens, py::arg("turns") = kTurns,
             py::arg("busy_spin") = false, py::arg("session_bytes") = 1u << 18, py::arg("early_frames") = 256,
             py::arg("early_bytes") = 16u << 10, py::arg("tunes") = kTunes, py::arg("strangers") = 256,
             py::arg("strangers_of_address") = 64, py::arg("arrivals") = kArrivals, py::arg("device_frames") = kFrames)
        .def_property_readonly("port", &net::Listener::port)
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
                const auto identity = self.sessions().identity(session);
                return identity ? std::optional<py::bytes>(*identity) : std::nullopt;
            },
            py::arg("session"))
        .def("rtt_ms", &net::Listener::rtt_ms, py::arg("session"))
        .def("set_tls", &net::Listener::set_tls, py::arg("tls"))
        .def("disconnect", &net::Listener::disconnect, py::arg("number"))
        .def("wake", [](net::Listener& self) { self.loop().wake(); })
        .def("close", &net::Listener::close, py::call_guard<py::gil_scoped_release>());
    end_living_at_exit(&net::Listener::close);
}

}  // namespace edgespec::bindings
