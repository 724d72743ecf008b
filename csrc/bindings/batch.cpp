#include "bindings/batch.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>
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
    constexpr std::size_t kPromptWeight = 16, kTokensOfOne = 512, kSamplingBytesOfOne = 1024,
                          kPictureBytesOfOne = 65536;
    const auto* received = std::get_if<net::Received>(&event.what);
    if (received == nullptr) return 1;
    if (const auto* open = std::get_if<wire::Open>(&received->message)) {
        return kPromptWeight + (open->tokens.size + open->logit_bias.size) / kTokensOfOne +
               open->sampling.size() / kSamplingBytesOfOne + open->pictures.size() / kPictureBytesOfOne;
    }
    if (const auto* append = std::get_if<wire::Append>(&received->message)) {
        return kPromptWeight + append->tokens.size / kTokensOfOne + append->pictures.size() / kPictureBytesOfOne;
    }
    return 1;
}

// Of a device in one run. The loop takes a node in within some 3 us, so that a device's largest blocks delay a forward
// by a fraction of a millisecond; a draft's blocks are smaller.
constexpr std::size_t kDeviceNodes = 64;

// Events in their order, and for each block among them how many of its nodes are left for the next run.
struct Run {
    std::vector<net::Event> events;
    std::vector<std::uint32_t> following;
};

// The first nodes of a block that is too large for a run, which keeps the others.
net::Event first_nodes(net::Event& event) {
    auto& received = std::get<net::Received>(event.what);
    auto& block = std::get<wire::Block>(received.message);
    const auto cut = [](auto& view) {
        const auto first = std::decay_t<decltype(view)>{view.data, kDeviceNodes};
        view = {view.data + kDeviceNodes, view.size - kDeviceNodes};
        return first;
    };
    wire::Block first{block.first_node, cut(block.tokens), cut(block.parents), cut(block.probabilities)};
    block.first_node += kDeviceNodes;
    return {event.number, net::Received{received.channel, first, received.lease}, event.lane};
}

// Events of the devices in turns. None that is no block comes behind a block of the same device: to hand the others
// over before the blocks keeps order.
Run take_run(net::EventBox& inbox, std::size_t most, std::size_t most_nodes) {
    Run run;
    std::unordered_map<std::uint64_t, std::size_t> nodes_of;  // of each device that a block has come from
    std::size_t taken = 0, nodes = 0;
    const auto size = [](const wire::Block& block) { return std::min(block.tokens.size, kDeviceNodes); };
    const auto more = [&](const net::Event& event) {
        if (taken == 0) return true;
        const auto* block = block_of(event);
        return taken + weight_of(event) <= most && (block == nullptr || nodes + size(*block) <= most_nodes);
    };
    const auto wanted = [&](const net::Event& event) {
        const auto* block = block_of(event);
        const auto before = nodes_of.find(event.lane);
        if (before != nodes_of.end() && (block == nullptr || before->second + size(*block) > kDeviceNodes))
            return false;
        if (block != nullptr) nodes_of[event.lane] += size(*block), nodes += size(*block);
        taken += weight_of(event);
        return true;
    };
    const auto piece = [&](net::Event& event) -> std::optional<net::Event> {
        const auto* block = block_of(event);
        if (block == nullptr) return std::nullopt;
        run.following.push_back(static_cast<std::uint32_t>(block->tokens.size - size(*block)));
        if (run.following.back() == 0) return std::nullopt;
        return first_nodes(event);
    };
    run.events = inbox.take_while(more, wanted, piece);
    return run;
}

Batch batch_of(Run&& run) {
    std::size_t nodes = 0;
    for (const net::Event& event : run.events) {
        if (const auto* block = block_of(event)) nodes += block->tokens.size;
    }
    const auto size = static_cast<py::ssize_t>(run.following.size());
    py::array_t<Node> rows(static_cast<py::ssize_t>(nodes));
    Batch batch{py::list(),
                py::array_t<std::uint64_t>(size),
                py::array_t<std::uint32_t>(size),
                py::array_t<std::uint32_t>(size, run.following.data()),
                py::array_t<std::int64_t>(size + 1),
                rows};
    auto* number = batch.numbers.mutable_data();
    auto* first_node = batch.first_nodes.mutable_data();
    auto* offset = batch.offsets.mutable_data();
    Node* const begin = rows.mutable_data();
    Node* node = begin;
    for (net::Event& event : run.events) {
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
    Run run = take_run(listener.inbox(), max_events, max_nodes);
    if (run.events.empty() && !(timeout_s && *timeout_s <= 0)) {
        wait(listener, timeout_s);
        run = take_run(listener.inbox(), max_events, max_nodes);
    }
    return batch_of(std::move(run));
}

void register_batch(py::module_& module) {
    PYBIND11_NUMPY_DTYPE(Node, token, parent, probability);
    py::class_<Batch>(module, "Batch")
        .def_readonly("others", &Batch::others)
        .def_readonly("numbers", &Batch::numbers)
        .def_readonly("first_nodes", &Batch::first_nodes)
        .def_readonly("following", &Batch::following)
        .def_readonly("offsets", &Batch::offsets)
        .def_readonly("nodes", &Batch::nodes);
}

}  // namespace edgespec::bindings
