// One encode function a frame that Python sends: its fields in, the whole frame out.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "wire/codec.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
wire::View<T> view(const Array<T>& array) {
    if (array.ndim() != 1) throw py::value_error("arrays on the wire have one dimension");
    return {array.data(), static_cast<std::size_t>(array.size())};
}

template <std::size_t N>
std::array<std::uint8_t, N> bytes_of(const py::bytes& bytes, const char* name) {
    const auto text = static_cast<std::string_view>(bytes);
    if (text.size() != N) throw py::value_error(std::string(name) + " must have " + std::to_string(N) + " bytes");
    std::array<std::uint8_t, N> array;
    std::memcpy(array.data(), text.data(), N);
    return array;
}

template <class M>
py::bytes framed(std::uint16_t channel, const M& message) {
    const std::size_t bytes = wire::frame_bytes(message);
    PyObject* frame = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(bytes));
    if (frame == nullptr) throw py::error_already_set();
    py::bytes owned = py::reinterpret_steal<py::bytes>(frame);
    wire::encode(channel, message, reinterpret_cast<std::uint8_t*>(PyBytes_AS_STRING(frame)));
    return owned;
}

void register_session_encoders(py::module_& module) {
    module.def(
        "encode_open",
        [](std::uint16_t channel, const py::bytes& session_id, double temperature, std::uint32_t top_k, double top_p,
           double min_p, double repetition_penalty, std::uint64_t seed, std::uint32_t max_new_tokens, bool logprobs,
           bool ignore_eos, const wire::ServerOptions& options, std::uint32_t latency_us,
           const std::vector<std::pair<std::int32_t, float>>& logit_bias, const Array<std::int32_t>& tokens) {
            std::vector<wire::Bias> biases;
            for (const auto& [token, bias] : logit_bias) biases.push_back({token, bias});
            wire::Open m;
            m.session_id = bytes_of<16>(session_id, "session_id");
            m.temperature = temperature;
            m.top_p = top_p;
            m.min_p = min_p;
            m.repetition_penalty = repetition_penalty;
            m.seed = seed;
            m.top_k = top_k;
            m.max_new_tokens = max_new_tokens;
            m.options = options;
            m.flags = static_cast<std::uint16_t>((logprobs ? wire::Open::kLogprobs : 0) |
                                                 (ignore_eos ? wire::Open::kIgnoreEos : 0));
            m.latency_us = latency_us;
            m.tokens = view(tokens);
            m.logit_bias = {biases.data(), biases.size()};
            return framed(channel, m);
        },
        py::arg("channel"), py::kw_only(), py::arg("session_id"), py::arg("temperature"), py::arg("top_k"),
        py::arg("top_p"), py::arg("min_p"), py::arg("repetition_penalty"), py::arg("seed"), py::arg("max_new_tokens"),
        py::arg("logprobs"), py::arg("ignore_eos"), py::arg("options"), py::arg("latency_us") = 0,
        py::arg("logit_bias"), py::arg("tokens"));
    module.def(
        "encode_append",
        [](std::uint16_t channel, std::uint32_t keep_length, std::uint32_t max_new_tokens,
           const Array<std::int32_t>& tokens, std::uint16_t turn) {
            return framed(channel, wire::Append{keep_length, max_new_tokens, turn, view(tokens)});
        },
        py::arg("channel"), py::arg("keep_length"), py::arg("max_new_tokens"), py::arg("tokens"), py::arg("turn"));
    module.def(
        "encode_block",
        [](std::uint16_t channel, std::uint32_t first_node, const Array<std::int32_t>& tokens,
           const Array<std::uint32_t>& parents, const Array<std::uint8_t>& probabilities) {
            return framed(channel, wire::Block{first_node, view(tokens), view(parents), view(probabilities)});
        },
        py::arg("channel"), py::arg("first_node"), py::arg("tokens"), py::arg("parents"), py::arg("probabilities"));
    module.def(
        "encode_hint",
        [](std::uint16_t channel, std::uint32_t base_length, std::uint32_t node, std::int32_t token, float confidence,
           std::uint16_t layer, std::uint32_t clock_us, std::uint16_t turn) {
            return framed(channel, wire::Hint{base_length, node, token, confidence, layer, turn, clock_us});
        },
        py::arg("channel"), py::arg("base_length"), py::arg("node"), py::arg("token"), py::arg("confidence"),
        py::arg("layer"), py::arg("clock_us"), py::arg("turn"));
    module.def(
        "encode_verdict",
        [](std::uint16_t channel, std::uint32_t base_length, const Array<std::int32_t>& tokens,
           const std::optional<Array<float>>& logprobs, wire::FinishReason finish, std::uint32_t forwards,
           std::uint16_t rows, std::uint32_t forward_us, std::uint32_t clock_us, std::uint16_t turn) {
            wire::Verdict m{base_length, forwards, forward_us, clock_us, rows, turn, finish, view(tokens), {}};
            if (logprobs) m.logprobs = view(*logprobs);
            return framed(channel, m);
        },
        py::arg("channel"), py::arg("base_length"), py::arg("tokens"), py::arg("logprobs"), py::arg("finish"),
        py::arg("forwards"), py::arg("rows"), py::arg("forward_us"), py::arg("clock_us"), py::arg("turn"));
    module.def(
        "encode_tune",
        [](std::uint16_t channel, const wire::ServerOptions& options) { return framed(channel, wire::Tune{options}); },
        py::arg("channel"), py::arg("options"));
    module.def(
        "encode_resume",
        [](std::uint16_t channel, const py::bytes& session_id, std::uint32_t last_sequence) {
            return framed(channel, wire::Resume{bytes_of<16>(session_id, "session_id"), last_sequence});
        },
        py::arg("channel"), py::arg("session_id"), py::arg("last_sequence"));
    module.def(
        "encode_close",
        [](std::uint16_t channel, wire::FinishReason reason) { return framed(channel, wire::Close{reason}); },
        py::arg("channel"), py::arg("reason"));
}

void register_connection_encoders(py::module_& module) {
    module.def(
        "encode_hello",
        [](const py::bytes& vocabulary_hash, const std::string& agent, const py::bytes& credential,
           std::uint32_t features) {
            wire::Hello m;
            m.features = features;
            m.vocabulary_hash = bytes_of<32>(vocabulary_hash, "vocabulary_hash");
            m.agent = agent;
            m.credential = static_cast<std::string_view>(credential);
            if (wire::frame_bytes(m) > wire::kHeaderBytes + wire::kMaxUnwelcomedPayload) {
                throw py::value_error("agent and credential do not fit a HELLO of 512 bytes");
            }
            return framed(0, m);
        },
        py::arg("vocabulary_hash"), py::arg("agent"), py::arg("credential") = py::bytes(), py::arg("features") = 0);
    module.def(
        "encode_welcome",
        [](std::uint16_t version, std::uint32_t features, const py::bytes& vocabulary_hash,
           std::uint32_t context_length, std::uint32_t vocabulary_size, std::uint16_t layers,
           const std::vector<std::uint16_t>& exit_layers, const std::vector<std::int32_t>& end_tokens,
           const std::string& target_id, std::uint32_t max_frame_bytes, std::uint32_t max_block_nodes) {
            return framed(0, wire::Welcome{version,
                                           layers,
                                           features,
                                           context_length,
                                           vocabulary_size,
                                           max_frame_bytes,
                                           max_block_nodes,
                                           bytes_of<32>(vocabulary_hash, "vocabulary_hash"),
                                           {end_tokens.data(), end_tokens.size()},
                                           {exit_layers.data(), exit_layers.size()},
                                           target_id});
        },
        py::arg("version"), py::arg("features"), py::arg("vocabulary_hash"), py::arg("context_length"),
        py::arg("vocabulary_size"), py::arg("layers"), py::arg("exit_layers"), py::arg("end_tokens"),
        py::arg("target_id"), py::arg("max_frame_bytes"), py::arg("max_block_nodes"));
    module.def(
        "encode_error",
        [](std::uint16_t channel, wire::ErrorCode code, bool retryable, const std::string& message,
           std::uint32_t retry_after_ms) {
            return framed(channel, wire::Error{code, retryable, retry_after_ms, message});
        },
        py::arg("channel"), py::arg("code"), py::arg("retryable"), py::arg("message"), py::arg("retry_after_ms") = 0);
    module.def(
        "encode_goaway",
        [](const std::string& message, std::uint32_t retry_after_ms) {
            return framed(0, wire::Goaway{retry_after_ms, message});
        },
        py::arg("message"), py::arg("retry_after_ms") = 0);
}

}  // namespace

void register_encoders(py::module_& module) {
    register_session_encoders(module);
    register_connection_encoders(module);
}

}  // namespace edgespec::bindings
