// The wire format for Python: its constants, its messages and decode().
#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "net/receiver.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

py::object decode(const py::bytes& bytes) {
    const auto text = static_cast<std::string_view>(bytes);
    auto copy = std::make_shared<std::vector<std::uint8_t>>(text.begin(), text.end());
    if (copy->size() < wire::kHeaderBytes) throw wire::BadFrame("a frame has at least a header");
    const wire::Header header = wire::read_header(copy->data());
    wire::check_header(header, wire::kMaxPayload);
    if (copy->size() != wire::kHeaderBytes + wire::padded(header.payload_bytes)) {
        throw wire::BadFrame("a frame's length is not what its header says");
    }
    net::Message message = wire::decode_message(header, copy->data() + wire::kHeaderBytes);
    return to_python({header.channel, std::move(message), std::move(copy)});
}

}  // namespace

void register_wire(py::module_& module) {
    py::register_exception<wire::BadFrame>(module, "BadFrame", PyExc_ValueError);
    module.attr("PROTOCOL_VERSION") = wire::kProtocolVersion;
    module.attr("COMMITTED_BIT") = wire::kCommittedBit;
    py::enum_<wire::ErrorCode>(module, "ErrorCode")
        .value("PROTOCOL", wire::ErrorCode::kProtocol)
        .value("VERSION", wire::ErrorCode::kVersion)
        .value("VOCABULARY", wire::ErrorCode::kVocabulary)
        .value("CREDENTIAL", wire::ErrorCode::kCredential)
        .value("CONTEXT", wire::ErrorCode::kContext)
        .value("PARAMETER", wire::ErrorCode::kParameter)
        .value("UNKNOWN_SESSION", wire::ErrorCode::kUnknownSession)
        .value("OVERLOADED", wire::ErrorCode::kOverloaded)
        .value("INTERNAL", wire::ErrorCode::kInternal)
        .value("LIMIT", wire::ErrorCode::kLimit)
        .value("DRAINING", wire::ErrorCode::kDraining)
        .value("UNKNOWN_PICTURE", wire::ErrorCode::kUnknownPicture);
    py::enum_<wire::FinishReason>(module, "FinishReason")
        .value("NONE", wire::FinishReason::kNone)
        .value("STOP", wire::FinishReason::kStop)
        .value("LENGTH", wire::FinishReason::kLength)
        .value("CANCELLED", wire::FinishReason::kCancelled)
        .value("ERROR", wire::FinishReason::kError);
    register_messages(module);
    module.def("decode", &decode, py::arg("frame"), "The message of one whole frame. Raises BadFrame.");
}

}  // namespace edgespec::bindings
