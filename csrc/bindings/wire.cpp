// The wire format for Python: its constants, its messages, its encoders and decode().
#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "wire/codec.hpp"

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
    net::Message message = net::decode_message(header, copy->data() + wire::kHeaderBytes);
    return to_python({header.channel, std::move(message), std::move(copy)});
}

}  // namespace

void register_wire(py::module_& module) {
    py::register_exception<wire::BadFrame>(module, "BadFrame", PyExc_ValueError);
    module.attr("PROTOCOL_VERSION") = wire::kProtocolVersion;
    module.attr("HOSTS_DRAFT") = wire::Welcome::kHostsDraft;
    module.attr("COMMITTED_BIT") = wire::kCommittedBit;
    py::enum_<wire::FrameType>(module, "FrameType")
        .value("HELLO", wire::FrameType::kHello)
        .value("WELCOME", wire::FrameType::kWelcome)
        .value("OPEN", wire::FrameType::kOpen)
        .value("APPEND", wire::FrameType::kAppend)
        .value("BLOCK", wire::FrameType::kBlock)
        .value("HINT", wire::FrameType::kHint)
        .value("VERDICT", wire::FrameType::kVerdict)
        .value("ACK", wire::FrameType::kAck)
        .value("RESUME", wire::FrameType::kResume)
        .value("CLOSE", wire::FrameType::kClose)
        .value("PING", wire::FrameType::kPing)
        .value("PONG", wire::FrameType::kPong)
        .value("GOAWAY", wire::FrameType::kGoaway)
        .value("ERROR", wire::FrameType::kError)
        .value("TUNE", wire::FrameType::kTune);
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
        .value("DRAINING", wire::ErrorCode::kDraining);
    py::enum_<wire::FinishReason>(module, "FinishReason")
        .value("NONE", wire::FinishReason::kNone)
        .value("STOP", wire::FinishReason::kStop)
        .value("LENGTH", wire::FinishReason::kLength)
        .value("CANCELLED", wire::FinishReason::kCancelled)
        .value("ERROR", wire::FinishReason::kError);
    register_messages(module);
    register_encoders(module);
    module.def("decode", &decode, py::arg("frame"), "The message of one whole frame. Raises BadFrame.");
}

}  // namespace edgespec::bindings
