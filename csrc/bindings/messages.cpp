// The wire's messages for Python: what was received as the object of its class.
#include "bindings/message.hpp"
#include "bindings/register.hpp"
#include "net/receiver.hpp"

namespace edgespec::bindings {

py::object to_python(net::Received&& received) {
    return std::visit(
        [&](auto&& message) -> py::object {
            using M = std::decay_t<decltype(message)>;
            if constexpr (std::is_same_v<M, wire::Ack> || std::is_same_v<M, wire::Ping> ||
                          std::is_same_v<M, wire::Pong>) {
                return py::none();
            } else {
                return py::cast(Held<M>{received.channel, message, std::move(received.lease)});
            }
        },
        received.message);
}

void register_messages(py::module_& module) {
    register_connection_messages(module);
    register_session_messages(module);
}

}  // namespace edgespec::bindings
