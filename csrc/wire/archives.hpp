// A message's layout, written and read.
#pragma once

#include <array>
#include <limits>
#include <utility>

#include "wire/messages.hpp"

namespace edgespec::wire {

[[noreturn]] inline void bad(const std::string& what) { throw BadFrame(what); }

template <class T>
std::size_t size_of(const View<T>& list) {
    return list.size;
}
inline std::size_t size_of(std::string_view text) { return text.size(); }

// Writes a message's fields one after the other; without memory to write to it counts their bytes.
template <class M>
class Writer {
 public:
    Writer(const M& message, std::uint8_t* to) : message_(message), to_(to) {}
    std::size_t bytes() const { return bytes_; }

    void magic() { put(&kMagic, sizeof kMagic); }
    template <class T>
    void value(const char*, T M::* field) {
        put(&(message_.*field), sizeof(T));
    }
    template <class Int, class List>
    std::size_t count(Int, List M::* list) {
        const std::size_t size = size_of(message_.*list);
        if (size > std::numeric_limits<Int>::max()) bad("a list is too long for a frame");
        put_as<Int>(size);
        return size;
    }
    // Bit 0: there is a list of `count`; bits 3 to 7: for each of the `count`, how many `more` has.
    template <class List, class More>
    std::pair<std::size_t, std::size_t> verdict_flags(std::size_t count, List M::* list, More M::* more) {
        const bool any = size_of(message_.*list) != 0;
        const std::size_t all = size_of(message_.*more), each = count == 0 ? 0 : all / count;
        put_as<std::uint8_t>((any ? 1 : 0) | each << 3);
        return {any ? count : 0, all};
    }
    template <class Int, class... Fields>
    void bits(Int, Fields... fields) {
        put_as<Int>(bits_of(fields...));
    }
    template <class T>
    void array(const char*, View<T> M::* list, std::size_t) {
        put((message_.*list).data, (message_.*list).size * sizeof(T));
    }
    template <class Text>
    void text(const char*, Text M::* text, std::size_t) {
        put((message_.*text).data(), (message_.*text).size());
    }
    void reserved(std::size_t bytes) {
        const std::uint8_t zeros[8] = {};
        put(zeros, bytes);
    }
    void skip_sections(std::size_t) {}
    template <class... Kinds>
    std::size_t section_count(Kinds... kinds) {
        const std::size_t count = (std::size_t{!(message_.*kinds.bytes).empty()} + ... + 0);
        put_as<std::uint16_t>(count);
        return count;
    }
    template <class... Kinds>
    void sections(std::size_t, Kinds... kinds) {
        (section(kinds), ...);
    }

 private:
    void section(SectionKind<M> kind) {
        const Bytes bytes = message_.*kind.bytes;
        if (bytes.empty()) return;
        if (bytes.size() > std::numeric_limits<std::uint32_t>::max()) bad("a section is too long for a frame");
        reserved(padded(bytes_) - bytes_);
        put_as<std::uint16_t>(kind.number);
        put_as<std::uint16_t>(0);
        put_as<std::uint32_t>(bytes.size());
        put(bytes.data(), bytes.size());
    }
    template <class Int>
    void put_as(std::size_t value) {
        const auto narrow = static_cast<Int>(value);
        put(&narrow, sizeof narrow);
    }
    void put(const void* data, std::size_t bytes) {
        if (to_ != nullptr && bytes != 0) std::memcpy(to_ + bytes_, data, bytes);
        bytes_ += bytes;
    }
    std::size_t bits_of() const { return 0; }
    template <class... Rest>
    std::size_t bits_of(const char*, bool M::* field, Rest... rest) const {
        return (message_.*field ? 1u : 0u) | bits_of(rest...) << 1;
    }

    const M& message_;
    std::uint8_t* const to_;
    std::size_t bytes_ = 0;
};

// Reads a message's fields within the bounds of its payload.
template <class M>
class Reader {
 public:
    Reader(M& message, const std::uint8_t* payload, std::size_t bytes)
        : message_(message), start_(payload), bytes_(bytes) {}

    void magic() {
        if (get<std::uint32_t>() != kMagic) bad("this is not an edgespec HELLO");
    }
    template <class T>
    void value(const char*, T M::* field) {
        message_.*field = get<T>();
    }
    void value(const char*, bool M::* field) { message_.*field = get<std::uint8_t>() != 0; }
    template <class Int, class List>
    std::size_t count(Int, List M::*) {
        return get<Int>();
    }
    template <class List, class More>
    std::pair<std::size_t, std::size_t> verdict_flags(std::size_t count, List M::*, More M::*) {
        const std::size_t flags = get<std::uint8_t>();
        return {(flags & 1) != 0 ? count : 0, (flags >> 3) * count};
    }
    template <class Int, class... Fields>
    void bits(Int, Fields... fields) {
        set_bits(get<Int>(), fields...);
    }
    template <class T>
    void array(const char*, View<T> M::* list, std::size_t count) {
        if (count > left() / sizeof(T)) bad("an array is longer than its frame");
        message_.*list = {reinterpret_cast<const T*>(take(count * sizeof(T))), count};
    }
    template <class Text>
    void text(const char*, Text M::* text, std::size_t bytes) {
        message_.*text = Text(std::string_view(reinterpret_cast<const char*>(take(bytes)), bytes));
    }
    void reserved(std::size_t bytes) { take(bytes); }
    template <class... Kinds>
    std::size_t section_count(Kinds...) {
        return get<std::uint16_t>();
    }
    // Behind a message's arrays: u16 kind, u16 flags, u32 bytes, then the bytes; each begins at a multiple of 8.
    template <class... Kinds>
    void sections(std::size_t count, Kinds... kinds) {
        for (std::array<bool, sizeof...(kinds)> found{}; count > 0; --count) {
            const Section next = next_section();
            std::size_t at = 0;
            if (!(take_section(next, kinds, found[at++]) || ...)) pass_over(next);
        }
    }
    void skip_sections(std::size_t count) {
        for (; count > 0; --count) pass_over(next_section());
    }
    void end() const {
        if (left() != 0) bad("a frame is longer than what it says");
    }

 private:
    struct Section {
        std::uint16_t kind, flags;
        Bytes bytes;
    };
    Section next_section() {
        take(padded(at_) - at_);
        const auto kind = get<std::uint16_t>(), flags = get<std::uint16_t>();
        const auto bytes = get<std::uint32_t>();
        return {kind, flags, Bytes(std::string_view(reinterpret_cast<const char*>(take(bytes)), bytes))};
    }
    bool take_section(const Section& next, SectionKind<M> kind, bool& found) {
        if (next.kind != kind.number) return false;
        if (std::exchange(found, true)) bad("a frame has a section twice");
        message_.*kind.bytes = next.bytes;
        return true;
    }
    static void pass_over(const Section& unknown) {
        if ((unknown.flags & kOptionalFlag) == 0) bad("a frame has a section that is required and unknown");
    }
    std::size_t left() const { return bytes_ - at_; }
    const std::uint8_t* take(std::size_t bytes) {
        if (bytes > left()) bad("a frame is shorter than what it says");
        at_ += bytes;
        return start_ + at_ - bytes;
    }
    template <class T>
    T get() {
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    void set_bits(std::size_t) {}
    template <class... Rest>
    void set_bits(std::size_t bits, const char*, bool M::* field, Rest... rest) {
        message_.*field = (bits & 1) != 0;
        set_bits(bits >> 1, rest...);
    }

    M& message_;
    const std::uint8_t* const start_;
    const std::size_t bytes_;
    std::size_t at_ = 0;
};

}  // namespace edgespec::wire
