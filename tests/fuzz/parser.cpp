// Fuzzes the wire: any bytes give the same frames whole and in pieces; what is decoded encodes to a frame that decodes
// to the same bytes again.
#include <cstdlib>

#include "net/link.hpp"

using namespace edgespec;

namespace {

constexpr std::size_t kPayload = 65536 - wire::kHeaderBytes;

// A number for everything that was found in the bytes, as they become known `step` at a time.
std::uint64_t digest(const std::vector<std::uint64_t>& aligned, std::size_t bytes, std::size_t step) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(aligned.data());
    std::uint64_t digest = 14695981039346656037u;
    const auto mix = [&](std::uint64_t value) { digest = (digest ^ value) * 1099511628211u; };
    std::size_t parsed = 0;
    try {
        for (std::size_t known = 0; known < bytes;) {
            known = std::min(bytes, known + step);
            while (true) {
                const wire::Parsed frame = wire::next_frame(data + parsed, known - parsed, kPayload);
                if (frame.payload == nullptr) break;
                parsed += frame.frame_bytes;
                mix(frame.header.type);
                if (!wire::is_known(frame.header.type)) continue;
                const auto message = wire::decode_message(frame.header, frame.payload);
                mix(message.index());
            }
        }
    } catch (const wire::BadFrame&) {
        mix(parsed);
    }
    return digest;
}

template <class Message>
void again(std::uint16_t channel, const Message& message) {
    const net::Frame once = net::frame_of(channel, message);
    const auto header = wire::read_header(once.data());
    const Message decoded = wire::decode<Message>(once.data() + wire::kHeaderBytes, header.payload_bytes);
    if (net::frame_of(channel, decoded) != once) std::abort();
}

void round_trips(const std::vector<std::uint64_t>& aligned, std::size_t bytes) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(aligned.data());
    try {
        for (std::size_t parsed = 0; parsed < bytes;) {
            const wire::Parsed frame = wire::next_frame(data + parsed, bytes - parsed, kPayload);
            if (frame.payload == nullptr) return;
            parsed += frame.frame_bytes;
            if (!wire::is_known(frame.header.type)) continue;
            const auto message = wire::decode_message(frame.header, frame.payload);
            std::visit([&](const auto& decoded) { again(frame.header.channel, decoded); }, message);
        }
    } catch (const wire::BadFrame&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    std::vector<std::uint64_t> aligned((bytes + 7) / 8);
    if (bytes != 0) std::memcpy(aligned.data(), data, bytes);
    const std::uint64_t whole = digest(aligned, bytes, bytes);
    for (const std::size_t step : {1, 7}) {
        if (digest(aligned, bytes, step) != whole) std::abort();
    }
    round_trips(aligned, bytes);
    return 0;
}
