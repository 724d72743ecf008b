// A byte stream in memory, in place of a socket: what one end writes the other reads, in pieces of a given size, unless
// it is stalled. Everything happens on one io_context, so a run is the same each time.
#pragma once

#include <algorithm>
#include <utility>

#include "net/transport.hpp"

namespace edgespec::test {

using net::ErrorStatus;
namespace asio = net::asio;

// One direction.
class Pipe {
 public:
    Pipe(asio::io_context& io, std::size_t piece) : io_(io), piece_(piece) {}

    void write(const std::uint8_t* data, std::size_t bytes) {
        bytes_.insert(bytes_.end(), data, data + bytes);
        pass();
    }

    void read(std::uint8_t* data, std::size_t bytes, net::Transport::Done done) {
        into_ = data, room_ = bytes, reader_ = std::move(done);
        pass();
    }

    void stall(bool stalled) {
        stalled_ = stalled;
        pass();
    }

    // Nothing more passes: what was under way is lost, who reads is told.
    void cut() {
        cut_ = true;
        pass();
    }

    net::Transport::Pending pending() const { return {!bytes_.empty(), ended_}; }

    void end() {  // the writer has written all
        ended_ = true;
        pass();
    }

 private:
    void pass() {
        if (!reader_) return;
        if (cut_) return finish(asio::error::connection_reset, 0);
        if (stalled_) return;
        if (bytes_.empty()) {
            if (ended_) finish(asio::error::eof, 0);
            return;
        }
        const std::size_t count = std::min({piece_, room_, bytes_.size()});
        std::copy_n(bytes_.begin(), count, into_);
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(count));
        finish({}, count);
    }

    void finish(ErrorStatus error, std::size_t count) {
        asio::post(io_, [done = std::exchange(reader_, nullptr), error, count] { done(error, count); });
    }

    asio::io_context& io_;
    const std::size_t piece_;
    std::vector<std::uint8_t> bytes_;
    std::uint8_t* into_ = nullptr;
    std::size_t room_ = 0;
    net::Transport::Done reader_;
    bool stalled_ = false, cut_ = false, ended_ = false;
};

class MemoryTransport final : public net::Transport {
 public:
    MemoryTransport(asio::io_context& io, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
        : io_(io), in_(std::move(in)), out_(std::move(out)) {}

    void begin(Begun done) override { done({}); }
    void read_some(std::uint8_t* data, std::size_t bytes, Done done) override {
        in_->read(data, bytes, std::move(done));
    }
    void write(const std::vector<asio::const_buffer>& buffers, Done done) override {
        std::size_t bytes = 0;
        for (const auto& buffer : buffers) {
            out_->write(static_cast<const std::uint8_t*>(buffer.data()), buffer.size());
            bytes += buffer.size();
        }
        asio::post(io_, [done = std::move(done), bytes] { done({}, bytes); });
    }
    Pending pending() const override { return in_->pending(); }
    void shut_down() override { out_->end(); }
    void close() override {
        in_->cut();
        out_->cut();
    }

 private:
    asio::io_context& io_;
    const std::shared_ptr<Pipe> in_, out_;
};

}  // namespace edgespec::test
