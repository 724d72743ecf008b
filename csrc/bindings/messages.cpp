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

template <class M, class Class>
void field(Class& type, const char* name, py::object (*get)(const py::object&, const M&)) {
    type.def_property_readonly(name,
                               [get](const py::object& self) { return get(self, self.cast<Held<M>&>().message); });
}

// A read-only array over the receive buffer, with the message as its base.
template <class T>
py::object viewing(const py::object& self, wire::View<T> view) {
    py::array_t<T> array({view.size}, {sizeof(T)}, view.data, self);
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return std::move(array);
}

template <class Range>
py::bytes to_bytes(const Range& range) {
    return py::bytes(reinterpret_cast<const char*>(range.data()), range.size());
}

// A peer's text may be anything: what is not UTF-8 is shown as such, and raises nothing.
py::str to_text(std::string_view text) {
    PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(decoded);
}

#define EDGESPEC_FIELD(M, name) \
    field<wire::M>(type, #name, [](const py::object&, const wire::M& m) -> py::object { return py::cast(m.name); })
#define EDGESPEC_TEXT(M, name) \
    field<wire::M>(type, #name, [](const py::object&, const wire::M& m) -> py::object { return to_text(m.name); })
#define EDGESPEC_ARRAY(M, name) \
    field<wire::M>(type, #name, \
                   [](const py::object& self, const wire::M& m) -> py::object { return viewing(self, m.name); })
#define EDGESPEC_BYTES(M, name) \
    field<wire::M>(type, #name, [](const py::object&, const wire::M& m) -> py::object { return to_bytes(m.name); })
#define EDGESPEC_FLAG(M, name, bit)                                                    \
    field<wire::M>(type, name, [](const py::object&, const wire::M& m) -> py::object { \
        return py::bool_((m.flags & wire::Open::bit) != 0);                            \
    })

template <class M>
py::class_<Held<M>> message_class(py::module_& module, const char* name) {
    py::class_<Held<M>> type(module, name);
    type.def_readonly("channel", &Held<M>::channel);
    return type;
}

void register_session_messages(py::module_& module) {
    py::class_<wire::ServerOptions>(module, "ServerOptions")
        .def(py::init([](std::uint32_t flags, float hint_threshold, std::uint32_t max_wait_us) {
                 return wire::ServerOptions{flags, hint_threshold, max_wait_us};
             }),
             py::kw_only(), py::arg("flags"), py::arg("hint_threshold"), py::arg("max_wait_us"))
        .def_readonly("flags", &wire::ServerOptions::flags)
        .def_readonly("hint_threshold", &wire::ServerOptions::hint_threshold)
        .def_readonly("max_wait_us", &wire::ServerOptions::max_wait_us);
    {
        auto type = message_class<wire::Open>(module, "Open");
        EDGESPEC_BYTES(Open, session_id);
        EDGESPEC_FIELD(Open, temperature);
        EDGESPEC_FIELD(Open, top_k);
        EDGESPEC_FIELD(Open, top_p);
        EDGESPEC_FIELD(Open, min_p);
        EDGESPEC_FIELD(Open, repetition_penalty);
        EDGESPEC_FIELD(Open, seed);
        EDGESPEC_FIELD(Open, max_new_tokens);
        EDGESPEC_FIELD(Open, options);
        EDGESPEC_FLAG(Open, "logprobs", kLogprobs);
        EDGESPEC_FLAG(Open, "ignore_eos", kIgnoreEos);
        EDGESPEC_FIELD(Open, latency_us);
        EDGESPEC_ARRAY(Open, tokens);
        field<wire::Open>(type, "logit_bias", [](const py::object&, const wire::Open& m) -> py::object {
            py::list pairs;
            for (std::size_t i = 0; i < m.logit_bias.size; ++i) {
                pairs.append(py::make_tuple(m.logit_bias.data[i].token, m.logit_bias.data[i].bias));
            }
            return std::move(pairs);
        });
    }
    {
        auto type = message_class<wire::Append>(module, "Append");
        EDGESPEC_FIELD(Append, keep_length);
        EDGESPEC_FIELD(Append, max_new_tokens);
        EDGESPEC_FIELD(Append, turn);
        EDGESPEC_ARRAY(Append, tokens);
    }
    {
        auto type = message_class<wire::Block>(module, "Block");
        EDGESPEC_FIELD(Block, first_node);
        EDGESPEC_ARRAY(Block, tokens);
        EDGESPEC_ARRAY(Block, parents);
        EDGESPEC_ARRAY(Block, probabilities);
    }
    {
        auto type = message_class<wire::Hint>(module, "Hint");
        EDGESPEC_FIELD(Hint, base_length);
        EDGESPEC_FIELD(Hint, node);
        EDGESPEC_FIELD(Hint, token);
        EDGESPEC_FIELD(Hint, confidence);
        EDGESPEC_FIELD(Hint, layer);
        EDGESPEC_FIELD(Hint, turn);
        EDGESPEC_FIELD(Hint, clock_us);
    }
    {
        auto type = message_class<wire::Verdict>(module, "Verdict");
        EDGESPEC_FIELD(Verdict, base_length);
        EDGESPEC_FIELD(Verdict, forwards);
        EDGESPEC_FIELD(Verdict, rows);
        EDGESPEC_FIELD(Verdict, forward_us);
        EDGESPEC_FIELD(Verdict, clock_us);
        EDGESPEC_FIELD(Verdict, turn);
        EDGESPEC_FIELD(Verdict, finish);
        EDGESPEC_ARRAY(Verdict, tokens);
        field<wire::Verdict>(type, "logprobs", [](const py::object& self, const wire::Verdict& m) -> py::object {
            return m.logprobs.size == 0 ? py::none() : viewing(self, m.logprobs);
        });
    }
    {
        auto type = message_class<wire::Resume>(module, "Resume");
        EDGESPEC_BYTES(Resume, session_id);
        EDGESPEC_FIELD(Resume, last_sequence);
    }
    {
        auto type = message_class<wire::Close>(module, "Close");
        EDGESPEC_FIELD(Close, reason);
    }
    {
        auto type = message_class<wire::Tune>(module, "Tune");
        EDGESPEC_FIELD(Tune, options);
    }
}

void register_connection_messages(py::module_& module) {
    {
        auto type = message_class<wire::Hello>(module, "Hello");
        EDGESPEC_FIELD(Hello, version_min);
        EDGESPEC_FIELD(Hello, version_max);
        EDGESPEC_FIELD(Hello, features);
        EDGESPEC_BYTES(Hello, vocabulary_hash);
        EDGESPEC_BYTES(Hello, credential);
        EDGESPEC_TEXT(Hello, agent);
    }
    {
        auto type = message_class<wire::Welcome>(module, "Welcome");
        EDGESPEC_FIELD(Welcome, version);
        EDGESPEC_FIELD(Welcome, features);
        field<wire::Welcome>(type, "hosts_draft", [](const py::object&, const wire::Welcome& m) -> py::object {
            return py::bool_((m.features & wire::Welcome::kHostsDraft) != 0);
        });
        EDGESPEC_BYTES(Welcome, vocabulary_hash);
        EDGESPEC_FIELD(Welcome, context_length);
        EDGESPEC_FIELD(Welcome, vocabulary_size);
        EDGESPEC_FIELD(Welcome, layers);
        EDGESPEC_FIELD(Welcome, max_frame_bytes);
        EDGESPEC_FIELD(Welcome, max_block_nodes);
        EDGESPEC_TEXT(Welcome, target_id);
        EDGESPEC_ARRAY(Welcome, exit_layers);
        EDGESPEC_ARRAY(Welcome, end_tokens);
    }
    {
        auto type = message_class<wire::Error>(module, "Error");
        EDGESPEC_FIELD(Error, code);
        EDGESPEC_FIELD(Error, retryable);
        EDGESPEC_FIELD(Error, retry_after_ms);
        EDGESPEC_TEXT(Error, message);
    }
    {
        auto type = message_class<wire::Goaway>(module, "Goaway");
        EDGESPEC_FIELD(Goaway, retry_after_ms);
        EDGESPEC_TEXT(Goaway, message);
    }
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
