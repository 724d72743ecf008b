// The mailbox of hints. Python keeps its listener and its memory, an array of the caller's, as long as the mailbox.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/living.hpp"
#include "bindings/register.hpp"
#include "net/hint_mailbox.hpp"
#include "net/listener.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using Words = py::array_t<std::int32_t, py::array::c_style>;
using References = py::array_t<std::uint32_t, py::array::c_style | py::array::forcecast>;
// (session, place, base_length, turn, threshold, references)
using Watch = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::uint16_t, float, References>;

constexpr auto kWordsOfCell = static_cast<py::ssize_t>(sizeof(net::HintCell) / sizeof(std::int32_t));

void check(const Words& cells) {
    if (cells.ndim() != 4 || cells.shape(0) != 2 || cells.shape(3) != kWordsOfCell) {
        throw py::value_error("cells must be int32 [2, places, exits, 8]");
    }
}

void publish(Words cells, std::uint32_t sequence, py::ssize_t place, py::ssize_t exit, std::int32_t length,
             std::int32_t end, std::int32_t token, float confidence) {
    check(cells);
    if (place < 0 || place >= cells.shape(1) || exit < 0 || exit >= cells.shape(2)) {
        throw py::value_error("there is no such cell");
    }
    auto* words = cells.mutable_data(sequence & 1, place, exit, 0);
    net::publish(*reinterpret_cast<net::HintCell*>(words), sequence, length, end, token, confidence);
}

std::shared_ptr<net::HintMailbox> make_mailbox(net::Listener& listener, Words cells, std::vector<std::uint16_t> layers,
                                               std::size_t rows) {
    const auto exits = static_cast<py::ssize_t>(layers.size());
    check(cells);
    if (cells.shape(2) != exits) throw py::value_error("cells must be int32 [2, places, exits, 8], an exit per layer");
    auto* words = reinterpret_cast<net::HintCell*>(cells.mutable_data());
    const auto places = static_cast<std::size_t>(cells.shape(1));
    net::HintMailbox::Send send = [&listener](std::uint64_t session, net::Frame frame) {
        return listener.send(session, std::move(frame));
    };
    return make_living(
        [&] { return std::make_unique<net::HintMailbox>(words, places, std::move(layers), rows, std::move(send)); });
}

void arm(net::HintMailbox& self, std::uint32_t sequence, const std::vector<Watch>& watches) {
    std::vector<net::HintWatch> wanted;
    wanted.reserve(watches.size());
    for (const auto& [session, place, base_length, turn, threshold, references] : watches) {
        wanted.push_back({session, place, base_length, turn, threshold, references.data(),
                          static_cast<std::size_t>(references.size())});
    }
    const py::gil_scoped_release release;
    self.arm(sequence, wanted);
}

}  // namespace

void register_mailbox(py::module_& module) {
    py::class_<net::HintMailbox, std::shared_ptr<net::HintMailbox>>(module, "HintMailbox")
        .def(py::init(&make_mailbox), py::arg("listener"), py::arg("cells").noconvert(), py::arg("layers"),
             py::arg("rows"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
        .def("arm", &arm, py::arg("sequence"), py::arg("watches"))
        .def("retire", &net::HintMailbox::retire, py::arg("sequence"), py::call_guard<py::gil_scoped_release>())
        .def("close", &net::HintMailbox::close, py::call_guard<py::gil_scoped_release>());
    module.def("publish_hint", &publish, py::arg("cells").noconvert(), py::arg("sequence"), py::arg("place"),
               py::arg("exit"), py::arg("length"), py::arg("end"), py::arg("token"), py::arg("confidence"));
    end_living_at_exit(&net::HintMailbox::close);
}

}  // namespace edgespec::bindings
