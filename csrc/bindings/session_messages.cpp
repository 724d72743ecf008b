#include "bindings/message.hpp"

namespace edgespec::bindings {

void register_session_messages(py::module_& module) {
    using wire::ServerOptions;
    py::class_<ServerOptions>(module, "ServerOptions")
        .def(py::init([](std::uint32_t flags, float hint_threshold, std::uint32_t max_wait_us) {
                 return ServerOptions{flags, hint_threshold, max_wait_us};
             }),
             py::kw_only(), py::arg("flags"), py::arg("hint_threshold"), py::arg("max_wait_us"))
        .def_readonly("flags", &ServerOptions::flags)
        .def_readonly("hint_threshold", &ServerOptions::hint_threshold)
        .def_readonly("max_wait_us", &ServerOptions::max_wait_us);
    register_message<wire::Open>(module, "Open", "encode_open");
    register_message<wire::Append>(module, "Append", "encode_append");
    register_message<wire::Block>(module, "Block", "encode_block");
    register_message<wire::Hint>(module, "Hint", "encode_hint");
    register_message<wire::Verdict>(module, "Verdict", "encode_verdict");
    register_message<wire::Resume>(module, "Resume", "encode_resume");
    register_message<wire::Close>(module, "Close", "encode_close");
    register_message<wire::Tune>(module, "Tune", "encode_tune");
}

}  // namespace edgespec::bindings
