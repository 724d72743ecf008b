// The parser and the codec: whole buffers and single bytes agree, damage is refused, memory is never overrun.
#include "check.hpp"
#include "frames.hpp"
#include "wire/codec.hpp"

using namespace edgespec;

namespace {

constexpr std::size_t kPayload = 65536 - wire::kHeaderBytes;

// The types of the frames found when bytes become known `step` at a time.
std::vector<std::uint8_t> types(const test::Frame& bytes, std::size_t step) {
    std::vector<std::uint8_t> found;
    std::size_t parsed = 0;
    for (std::size_t known = std::min(step, bytes.size());; known = std::min(known + step, bytes.size())) {
        while (true) {
            const wire::Parsed frame = wire::next_frame(bytes.data() + parsed, known - parsed, kPayload);
            if (frame.payload == nullptr) break;
            CHECK(wire::decode_message(frame.header, frame.payload).index() + 1 == frame.header.type);
            found.push_back(frame.header.type);
            parsed += frame.frame_bytes;
        }
        if (known == bytes.size()) break;
    }
    CHECK(parsed == bytes.size());
    return found;
}

void all_types_in_any_pieces() {
    test::Frame all;
    for (const auto& frame : test::one_of_each()) all.insert(all.end(), frame.begin(), frame.end());
    const auto whole = types(all, all.size());
    CHECK(whole.size() == 17);
    for (std::size_t step : {1, 3, 8, 100}) CHECK(types(all, step) == whole);
}

// A payload shortened by any amount is refused or is a shorter message; nothing beyond it is read (ASan looks).
void shortened_payloads() {
    for (const auto& frame : test::one_of_each()) {
        const wire::Header whole = wire::read_header(frame.data());
        for (std::uint32_t bytes = 0; bytes < whole.payload_bytes; ++bytes) {
            std::vector<std::uint64_t> exact((bytes + 7) / 8);
            if (bytes != 0) std::memcpy(exact.data(), frame.data() + wire::kHeaderBytes, bytes);
            wire::Header header = whole;
            header.payload_bytes = bytes;
            try {
                wire::decode_message(header, reinterpret_cast<const std::uint8_t*>(exact.data()));
            } catch (const wire::BadFrame&) {
            }
        }
    }
}

void headers() {
    const auto refused = [](wire::Header header) {
        return throws<wire::BadFrame>([&] { wire::check_header(header, kPayload); });
    };
    CHECK(!refused({8, 11, 0, 0, 0, 0}));
    CHECK(refused({8, 5, 0, 0, 1, 0}));                               // a session's frame on channel 0
    CHECK(refused({8, 11, 0, 1, 0, 0}));                              // the connection's on a session's
    CHECK(refused({8, 99, 0, 0, 0, 0}));                              // unknown, required
    CHECK(!refused({8, 99, wire::kOptionalFlag, 0, 0, 0}));           // unknown, optional
    CHECK(refused({kPayload + 1, 5, 0, 1, 1, 0}));                    // too long
    CHECK(!refused({wire::kMaxPayload, 3, 0, 1, 1, 0}));              // a prompt may be longer
    CHECK(refused({wire::kMaxPayload + 1, 3, 0, 1, 1, 0}));           // but not without end
    CHECK(refused({0xffffffffu, 99, wire::kOptionalFlag, 0, 0, 0}));  // nor may what is skipped
}

}  // namespace

int main() {
    all_types_in_any_pieces();
    shortened_payloads();
    headers();
}
