// How a listener is made: its limits by their names.
#include "bindings/listener.hpp"

#include <pybind11/stl.h>

#include "bindings/living.hpp"
#include "bindings/waiting.hpp"

namespace edgespec::bindings {

namespace {

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
                                             PerSecondAndBurst arrivals, PerSecondAndBurst device_frames,
                                             std::size_t queued_bytes) {
    net::ListenerLimits limits;
    limits.link = link_limits(dead_after_s);
    limits.link.frame_within = milliseconds(frame_within_s);
    limits.link.queued_bytes = queued_bytes;
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
    return make_living([&] { return net::listen(host, port, limits, std::move(tls)); });
}

}  // namespace

ListenerClass register_listener(py::module_& module) {
    ListenerClass listener(module, "Listener");
    listener.def(py::init(&make_listener), py::arg("host"), py::arg("port"), py::arg("backlog") = 128,
                 py::arg("dead_after_s") = 3.0, py::arg("slabs") = 4096, py::arg("tls") = py::none(),
                 py::arg("connections") = 2048, py::arg("connections_of_address") = 512,
                 py::arg("hello_within_s") = 5.0, py::arg("frame_within_s") = 10.0, py::arg("opens") = kOpens,
                 py::arg("turns") = kTurns, py::arg("busy_spin") = false, py::arg("session_bytes") = 1u << 18,
                 py::arg("early_frames") = 256, py::arg("early_bytes") = 16u << 10, py::arg("tunes") = kTunes,
                 py::arg("strangers") = 256, py::arg("strangers_of_address") = 64, py::arg("arrivals") = kArrivals,
                 py::arg("device_frames") = kFrames, py::arg("queued_bytes") = 1u << 20);
    return listener;
}

}  // namespace edgespec::bindings
