// What the bindings of both ends share: waiting for an inbox without the GIL, seconds, frames from bytes, counts.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/register.hpp"
#include "net/frame.hpp"
#include "net/limits.hpp"

namespace edgespec::bindings {

namespace py = pybind11;

using Seconds = std::optional<double>;

constexpr std::chrono::milliseconds kSignalCheck{100};

inline std::chrono::milliseconds milliseconds(double seconds) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::clamp(seconds, 0.0, 1e8) * 1e3));
}

// None while it is below 0: not known yet.
inline std::optional<double> known_ms(double ms) { return ms < 0 ? std::nullopt : std::optional(ms); }

template <class Type>
void add_traffic(Type& type) {
    using Self = typename Type::type;
    type.def_property_readonly("frames_sent", [](const Self& self) { return self.traffic().sent.load(); })
        .def_property_readonly("frames_hedged", [](const Self& self) { return self.traffic().hedged.load(); })
        .def_property_readonly("frames_resent", [](const Self& self) { return self.traffic().resent.load(); })
        .def_property_readonly("repeats_received", [](const Self& self) { return self.traffic().repeats.load(); });
}

inline net::Frame frame_from(const py::bytes& bytes) {
    const auto text = static_cast<std::string_view>(bytes);
    net::Frame frame(text.begin(), text.end());
    if (frame.size() < wire::kHeaderBytes ||
        frame.size() != wire::kHeaderBytes + wire::padded(wire::read_header(frame.data()).payload_bytes)) {
        throw py::value_error("send() takes one whole frame, as an encode function returns it");
    }
    return frame;
}

inline net::LinkLimits link_limits(double dead_after_s) {
    if (!(dead_after_s > 0)) throw py::value_error("dead_after_s must be above 0");
    net::LinkLimits limits;
    limits.dead_after = milliseconds(dead_after_s);
    limits.ping_every = std::min(limits.ping_every, limits.dead_after / 3);
    return limits;
}

// Waits without the GIL until this end's inbox has something or the time has passed, and does the I/O itself meanwhile;
// lets Python's signal handlers run. True when there is something, a wake or a close.
template <class End>
bool wait(End& end, Seconds timeout_s) {
    auto now = net::Clock::now();
    const auto deadline = now + std::chrono::duration_cast<net::Clock::duration>(
                                    std::chrono::duration<double>(std::min(timeout_s.value_or(1e8), 1e8)));
    while (true) {
        bool something = false;
        {
            const py::gil_scoped_release release;
            something = end.wait_until(std::min(deadline, now + kSignalCheck));
        }
        if (something) return true;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        now = net::Clock::now();
        if (now >= deadline) return false;
    }
}

}  // namespace edgespec::bindings
