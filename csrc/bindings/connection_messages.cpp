#include "bindings/message.hpp"

namespace edgespec::bindings {

void register_connection_messages(py::module_& module) {
    register_message<wire::Hello>(module, "Hello", "encode_hello");
    register_message<wire::Welcome>(module, "Welcome", "encode_welcome");
    register_message<wire::Goaway>(module, "Goaway", "encode_goaway");
    register_message<wire::Error>(module, "Error", "encode_error");
    register_message<wire::Fetch>(module, "Fetch", "encode_fetch");
    register_message<wire::File>(module, "File", "encode_file");
}

}  // namespace edgespec::bindings
