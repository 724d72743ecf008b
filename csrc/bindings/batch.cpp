#include "bindings/batch.hpp"

#include <unordered_set>
#include <vector>

namespace edgespec::bindings {

namespace {

// A row of the structured array.
struct Node {
    std::int32_t token;
    std::uint32_t parent;
    std::uint8_t probability;
};

const wire::Block* block_of(const net::Event& event) {
    const auto* received = std::get_if<net::Received>(&event.what);
    return received == nullptr ? nullptr : std::get_if<wire::Block>(&received->message);
}

// What taking an event in costs, in events that carry next to nothing.
std::size_t weight_of(const net::Event& event) {
    constexpr std::size_t kPromptWeight = 16, kTokensOfOne = 512;
    const auto* received = std::get_if<net::Received>(&event.what);
    if (received == nullptr) return 1;
    if (const auto* open = std::get_if<wire::Open>(&received->message)) {
        return kPromptWeight + (open->tokens.size + open->logit_bias.size) / kTokensOfOne;
    }
    if (const auto* append = std::get_if<wire::Append>(&received->message)) {
        return kPromptWeight + append->tokens.size / kTokensOfOne;
    }
    return 1;
}

// Events of the devices in turns. None that is no block comes behind a block of the same device: to hand the others
// over before the blocks keeps order.
std::vector<net::Event> take_run(net::EventBox& inbox, std::size_t most, std::size_t most_nodes) {
    std::unordered_set<std::uint64_t> with_blocks;
    std::size_t taken = 0, nodes = 0;
    const auto more = [&](const net::Event& event) {
        if (taken == 0) return true;
        const auto* block = block_of(event);
        return taken + weight_of(event) <= most && (block == nullptr || nodes + block->tokens.size <= most_nodes);
    };
    const auto wanted = [&](const net::Event& event) {
        const auto* block = block_of(event);
        if (block == nullptr && with_blocks.count(event.lane) != 0) return false;
        if (block != nullptr) with_blocks.insert(event.lane), nodes += block->tokens.size;
        taken += weight_of(event);
        return true;
    };
    return inbox.take_while(more, wanted);
}

Batch batch_of(std::vector<net::Event>&& events) {
    std::size_t blocks = 0, nodes = 0;
    for (const net::Event& event : events) {
        if (const auto* block = block_of(event)) ++blocks, nodes += block->tokens.size;
    }
    const auto size = static_cast<py::ssize_t>(blocks);
    py::array_t<Node> rows(static_cast<py::ssize_t>(nodes));
    Batch batch{py::list(), py::array_t<std::uint64_t>(size), py::array_t<std::uint32_t>(size),
                py::array_t<std::int64_t>(size + 1), rows};
    auto* number = batch.numbers.mutable_data();
    auto* first_node = batch.first_nodes.mutable_data();
    auto* offset = batch.offsets.mutable_data();
    Node* const begin = rows.mutable_data();
    Node* node = begin;
    for (net::Event& event : events) {
        if (const auto* block = block_of(event)) {
            *number++ = event.number;
            *first_node++ = block->first_node;
            *offset++ = node - begin;
            for (std::size_t i = 0; i < block->tokens.size; ++i) {
                *node++ = {block->tokens.data[i], block->parents.data[i], block->probabilities.data[i]};
            }
        } else {
            const std::uint64_t of = event.number;
            batch.others.append(py::make_tuple(of, to_python(std::move(event))));
        }
    }
    *offset = node - begin;
    return batch;
}

}  // namespace

py::object to_python(net::Event&& event) {
    return std::visit(
        [](auto&& what) -> py::object {
            if constexpr (std::is_same_v<std::decay_t<decltype(what)>, net::Received>) {
                return to_python(std::move(what));
            } else {
                return py::cast(std::move(what));
            }
        },
        std::move(event.what));
}

Batch poll_batch(net::Listener& listener, Seconds timeout_s, std::size_t max_events, std::size_t max_nodes) {
    auto events = take_run(listener.inbox(), max_events, max_nodes);
    if (events.empty() && !(timeout_s && *timeout_s <= 0)) {
        wait(listener.loop(), timeout_s);
        events = take_run(listener.inbox(), max_events, max_nodes);
    }
    return batch_of(std::move(events));
}

void register_batch(py::module_& module) {
    PYBIND11_NUMPY_DTYPE(Node, token, parent, probability);
    py::class_<Batch>(module, "Batch")
        .def_readonly("others", &Batch::others)
        .def_readonly("numbers", &Batch::numbers)
        .def_readonly("first_nodes", &Batch::first_nodes)
        .def_readonly("offsets", &Batch::offsets)
        .def_readonly("nodes", &Batch::nodes);
}

}  // namespace edgespec::bindings
