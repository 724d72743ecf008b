// A message of the wire for Python: a class, whose fields are read-only and whose arrays view the receive buffer, and
// an encode function, which takes the fields by their names, or in the layout's order. The layout says what there is; a
// field that is not given keeps the default of its message.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "wire/codec.hpp"

namespace edgespec::bindings {

namespace py = pybind11;

// A message as Python holds it: with its channel, and with what its views rest on.
template <class M>
struct Held {
    std::uint16_t channel;
    M message;
    std::shared_ptr<const void> lease;
};

// A field as Python sees it

// A peer's text may be anything: what is not UTF-8 is shown as such, and raises nothing.
inline py::object shown(const py::object&, std::string_view text) {
    PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(decoded);
}

inline py::object shown(const py::object&, const wire::Bytes& bytes) { return py::bytes(bytes.data(), bytes.size()); }

template <std::size_t N>
py::object shown(const py::object&, const std::array<std::uint8_t, N>& bytes) {
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// A read-only array over the receive buffer, with the message as its base.
template <class T>
py::object shown(const py::object& self, const wire::View<T>& view) {
    py::array_t<T> array({view.size}, {sizeof(T)}, view.data, self);
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return std::move(array);
}

inline py::object shown(const py::object&, const wire::View<wire::Bias>& biases) {
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

// What a layout says that is none of Python's business.
struct FieldsAlone {
    void magic() {}
    template <class Int, class List>
    std::size_t count(Int, List) {
        return 0;
    }
    template <class List, class More>
    std::pair<std::size_t, std::size_t> verdict_flags(std::size_t, List, More) {
        return {};
    }
    void reserved(std::size_t) {}
    template <class... Kinds>
    std::size_t section_count(Kinds...) {
        return 0;
    }
    void skip_sections(std::size_t) {}
};

// A layout whose every field, whatever it is, is `field(name, member)` of Own.
template <class M, class Own>
struct EachField : FieldsAlone {
    template <class T>
    void value(const char* name, T M::* member) {
        own().field(name, member);
    }
    template <class List>
    void array(const char* name, List M::* member, std::size_t) {
        own().field(name, member);
    }
    template <class Text>
    void text(const char* name, Text M::* member, std::size_t) {
        own().field(name, member);
    }
    template <class... Kinds>
    void sections(std::size_t, Kinds... kinds) {
        (own().field(kinds.name, kinds.bytes), ...);
    }
    template <class Int, class... Rest>
    void bits(Int type, const char* name, bool M::* member, Rest... rest) {
        own().field(name, member);
        if constexpr (sizeof...(rest) != 0) bits(type, rest...);
    }

 private:
    Own& own() { return static_cast<Own&>(*this); }
};

template <class M>
struct Properties : EachField<M, Properties<M>> {
    explicit Properties(py::class_<Held<M>>& shown_by) : type(shown_by) {}

    template <class T>
    void field(const char* name, T M::* member) {
        type.def_property_readonly(name, [member](const py::object& self) -> py::object {
            const T& own = self.cast<const Held<M>&>().message.*member;
            if constexpr (std::is_same_v<T, wire::View<float>>) {
                if (own.size == 0) return py::none();  // a VERDICT without log-probabilities
            }
            return shown(self, own);
        });
    }

    py::class_<Held<M>>& type;
};

// Takes a message's fields from the arguments of its encode function, and keeps what they view.
template <class M>
class Arguments : public EachField<M, Arguments<M>> {
 public:
    Arguments(M& message, const py::args& in_order, const py::kwargs& named)
        : message_(message), in_order_(in_order), named_(named) {
        M::layout(*this);
        if (used_ != in_order.size() + named.size()) throw py::type_error("a frame has no such field, or has it once");
    }

    template <class T>
    void field(const char* name, T M::* member) {
        PyObject* given = next_ < in_order_.size() ? PyTuple_GET_ITEM(in_order_.ptr(), static_cast<py::ssize_t>(next_))
                                                   : PyDict_GetItemString(named_.ptr(), name);
        ++next_;
        if (given == nullptr) return;
        ++used_;
        try {
            take(py::handle(given), message_.*member);
        } catch (const py::cast_error&) {
            throw py::type_error(std::string(name) + " is of another type, or does not fit");
        } catch (const std::length_error& error) {
            throw py::value_error(std::string(name) + error.what());
        }
    }

 private:
    template <class T>
    void take(py::handle given, T& value) {
        value = given.cast<T>();
    }
    void take(py::handle given, std::string_view& text) { text = given.cast<std::string_view>(); }
    void take(py::handle given, wire::Bytes& bytes) { bytes = wire::Bytes(given.cast<std::string_view>()); }
    template <std::size_t N>
    void take(py::handle given, std::array<std::uint8_t, N>& bytes) {
        const auto text = given.cast<std::string_view>();
        if (text.size() != N) throw std::length_error(" must have " + std::to_string(N) + " bytes");
        std::memcpy(bytes.data(), text.data(), N);
    }
    template <class T>
    void take(py::handle given, wire::View<T>& view) {
        if (given.is_none()) return;
        const auto array = py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(given);
        if (!array) throw py::error_already_set();
        if (array.ndim() != 1) throw std::length_error(" must have one dimension");
        view = {array.data(), static_cast<std::size_t>(array.size())};
        kept_.push_back(array);
    }
    void take(py::handle given, wire::View<wire::Bias>& view) {
        for (const auto& [token, bias] : given.cast<std::vector<std::pair<std::int32_t, float>>>()) {
            biases_.push_back({token, bias});
        }
        view = {biases_.data(), biases_.size()};
    }

    M& message_;
    const py::args& in_order_;
    const py::kwargs& named_;
    std::size_t next_ = 0, used_ = 0;
    std::vector<py::object> kept_;
    std::vector<wire::Bias> biases_;
};

template <class M>
py::bytes encode(std::uint16_t channel, const py::args& in_order, const py::kwargs& named) {
    M message;
    const Arguments<M> arguments(message, in_order, named);
    const std::size_t bytes = wire::frame_bytes(message);
    PyObject* frame = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(bytes));
    if (frame == nullptr) throw py::error_already_set();
    py::bytes owned = py::reinterpret_steal<py::bytes>(frame);
    wire::encode(channel, message, reinterpret_cast<std::uint8_t*>(PyBytes_AS_STRING(frame)));
    return owned;
}

template <class M>
void register_message(py::module_& module, const char* name, const char* encoder) {
    py::class_<Held<M>> type(module, name);
    type.def_readonly("channel", &Held<M>::channel);
    Properties<M> properties(type);
    M::layout(properties);
    if constexpr (wire::is_of_session(M::kType) || M::kType == wire::FrameType::kError) {
        module.def(encoder, &encode<M>, py::arg("channel"));
    } else {
        module.def(encoder,
                   [](const py::args& in_order, const py::kwargs& named) { return encode<M>(0, in_order, named); });
    }
}

void register_connection_messages(py::module_& module);
void register_session_messages(py::module_& module);

}  // namespace edgespec::bindings
