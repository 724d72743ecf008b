// The classes of received messages: read-only fields, arrays that view the receive buffer.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "wire/codec.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

// A message as Python holds it: with its channel, and with what its views rest on.
template <class M>
struct Held {
    std::uint16_t channel;
    M message;
    std::shared_ptr<const void> lease;
};

// A read-only array over the receive buffer, with the message as its base.
template <class T>
py::object viewing(const py::object& self, wire::View<T> view) {
    py::array_t<T> array({view.size}, {sizeof(T)}, view.data, self);
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return std::move(array);
}

// A peer's text may be anything: what is not UTF-8 is shown as such, and raises nothing.
py::str to_text(std::string_view text) {
    PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(decoded);
}

// A field as Python sees it.
py::object shown(const py::object&, std::string_view text) { return to_text(text); }

template <std::size_t N>
py::object shown(const py::object&, const std::array<std::uint8_t, N>& bytes) {
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

template <class T>
py::object shown(const py::object& self, const wire::View<T>& view) {
    return viewing(self, view);
}

py::object shown(const py::object&, const wire::View<wire::Bias>& biases) {
    py::list pairs;
    for (std::size_t i = 0; i < biases.size; ++i) {
        pairs.append(py::make_tuple(biases.data[i].token, biases.data[i].bias));
    }
    return std::move(pairs);
}

template <class T>
py::object shown(const py::object&, const T& value) {
    return py::cast(value);
}

template <class M>
void add_fields(py::class_<Held<M>>&) {}

template <class M, class T, class... Rest>
void add_fields(py::class_<Held<M>>& type, const char* name, T M::* member, Rest... rest) {
    type.def_property_readonly(
        name, [member](const py::object& self) { return shown(self, self.cast<const Held<M>&>().message.*member); });
    add_fields<M>(type, rest...);
}

// A class with the channel and these fields, each a name and a member.
template <class M, class... Fields>
py::class_<Held<M>> message_class(py::module_& module, const char* name, Fields... fields) {
    py::class_<Held<M>> type(module, name);
    type.def_readonly("channel", &Held<M>::channel);
    add_fields<M>(type, fields...);
    return type;
}

template <class M>
void add_flag(py::class_<Held<M>> type, const char* name, std::uint32_t bit) {
    type.def_property_readonly(name, [bit](const Held<M>& self) { return (self.message.flags & bit) != 0; });
}

void register_session_messages(py::module_& module) {
    using wire::Append, wire::Block, wire::Close, wire::Hint, wire::Open, wire::Resume, wire::ServerOptions, wire::Tune,
        wire::Verdict;
    py::class_<ServerOptions>(module, "ServerOptions")
        .def(py::init([](std::uint32_t flags, float hint_threshold, std::uint32_t max_wait_us) {
                 return ServerOptions{flags, hint_threshold, max_wait_us};
             }),
             py::kw_only(), py::arg("flags"), py::arg("hint_threshold"), py::arg("max_wait_us"))
        .def_readonly("flags", &ServerOptions::flags)
        .def_readonly("hint_threshold", &ServerOptions::hint_threshold)
        .def_readonly("max_wait_us", &ServerOptions::max_wait_us);
    auto open = message_class<Open>(module, "Open", "session_id", &Open::session_id, "temperature", &Open::temperature,
                                    "top_k", &Open::top_k, "top_p", &Open::top_p, "min_p", &Open::min_p,
                                    "repetition_penalty", &Open::repetition_penalty, "seed", &Open::seed,
                                    "max_new_tokens", &Open::max_new_tokens, "options", &Open::options, "latency_us",
                                    &Open::latency_us, "tokens", &Open::tokens, "logit_bias", &Open::logit_bias);
    add_flag<Open>(open, "logprobs", Open::kLogprobs);
    add_flag<Open>(open, "ignore_eos", Open::kIgnoreEos);
    message_class<Append>(module, "Append", "keep_length", &Append::keep_length, "max_new_tokens",
                          &Append::max_new_tokens, "turn", &Append::turn, "tokens", &Append::tokens);
    message_class<Block>(module, "Block", "first_node", &Block::first_node, "tokens", &Block::tokens, "parents",
                         &Block::parents, "probabilities", &Block::probabilities);
    message_class<Hint>(module, "Hint", "base_length", &Hint::base_length, "node", &Hint::node, "token", &Hint::token,
                        "confidence", &Hint::confidence, "layer", &Hint::layer, "turn", &Hint::turn, "clock_us",
                        &Hint::clock_us);
    message_class<Verdict>(module, "Verdict", "base_length", &Verdict::base_length, "forwards", &Verdict::forwards,
                           "rows", &Verdict::rows, "forward_us", &Verdict::forward_us, "clock_us", &Verdict::clock_us,
                           "turn", &Verdict::turn, "finish", &Verdict::finish, "tokens", &Verdict::tokens)
        .def_property_readonly("logprobs", [](const py::object& self) -> py::object {
            const auto& logprobs = self.cast<const Held<Verdict>&>().message.logprobs;
            return logprobs.size == 0 ? py::none() : viewing(self, logprobs);
        });
    message_class<Resume>(module, "Resume", "session_id", &Resume::session_id, "last_sequence", &Resume::last_sequence);
    message_class<Close>(module, "Close", "reason", &Close::reason);
    message_class<Tune>(module, "Tune", "options", &Tune::options);
}

void register_connection_messages(py::module_& module) {
    using wire::Error, wire::Goaway, wire::Hello, wire::Welcome;
    message_class<Hello>(module, "Hello", "version_min", &Hello::version_min, "version_max", &Hello::version_max,
                         "features", &Hello::features, "vocabulary_hash", &Hello::vocabulary_hash, "agent",
                         &Hello::agent)
        .def_property_readonly("credential",
                               [](const Held<Hello>& self) { return py::bytes(self.message.credential); });
    message_class<Welcome>(module, "Welcome", "version", &Welcome::version, "features", &Welcome::features,
                           "vocabulary_hash", &Welcome::vocabulary_hash, "context_length", &Welcome::context_length,
                           "vocabulary_size", &Welcome::vocabulary_size, "layers", &Welcome::layers, "max_frame_bytes",
                           &Welcome::max_frame_bytes, "max_block_nodes", &Welcome::max_block_nodes, "target_id",
                           &Welcome::target_id, "exit_layers", &Welcome::exit_layers, "end_tokens",
                           &Welcome::end_tokens)
        .def_property_readonly("hosts_draft", [](const Held<Welcome>& self) {
            return (self.message.features & Welcome::kHostsDraft) != 0;
        });
    message_class<Error>(module, "Error", "code", &Error::code, "retryable", &Error::retryable, "retry_after_ms",
                         &Error::retry_after_ms, "message", &Error::message);
    message_class<Goaway>(module, "Goaway", "retry_after_ms", &Goaway::retry_after_ms, "message", &Goaway::message);
}

}  // namespace

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
    register_session_messages(module);
    register_connection_messages(module);
}

}  // namespace edgespec::bindings
