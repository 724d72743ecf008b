// Reading and writing the fields of a payload, in order and within bounds: what the layouts of frames are written in.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>

#include "wire/messages.hpp"

namespace edgespec::wire {

[[noreturn]] inline void bad(const std::string& what) { throw BadFrame(what); }

template <class Int>
Int narrow(std::size_t value, const char* what) {
    if (value > std::numeric_limits<Int>::max()) bad(std::string(what) + " is too long");
    return static_cast<Int>(value);
}

inline void check_share(double value, const char* what) {
    if (!(value >= 0 && value <= 1)) bad(std::string(what) + " lies outside 0 to 1");
}

// What writing has in common; `put` counts bytes or copies them.
template <class Out>
class Output {
 public:
    static constexpr bool kReads = false;
    template <class T>
    void value(const T& value) {
        put(&value, sizeof(T));
    }
    void flag(bool value) { this->value(static_cast<std::uint8_t>(value)); }
    template <class Int>
    std::size_t count(std::size_t size, const char* what) {
        value(narrow<Int>(size, what));
        return size;
    }
    template <class T>
    void array(View<T> view, std::size_t) {
        put(view.data, view.size * sizeof(T));
    }
    void text(std::string_view view, std::size_t) { put(view.data(), view.size()); }
    void reserved(std::size_t bytes) {
        const std::uint8_t zeros[8] = {};
        put(zeros, bytes);
    }
    void skip_sections(std::size_t) {}

 private:
    void put(const void* data, std::size_t bytes) { static_cast<Out&>(*this).put(data, bytes); }
};

// Counts what a Writer would write.
struct Sizer : Output<Sizer> {
    void put(const void*, std::size_t more) { bytes += more; }
    std::size_t bytes = 0;
};

class Writer : public Output<Writer> {
 public:
    explicit Writer(std::uint8_t* start) : start_(start), at_(start) {}
    void put(const void* data, std::size_t bytes) {
        if (bytes != 0) std::memcpy(at_, data, bytes);
        at_ += bytes;
    }
    void align() {
        while ((at_ - start_) % 8 != 0) *at_++ = 0;
    }

 private:
    std::uint8_t* start_;
    std::uint8_t* at_;
};

class Reader {
 public:
    static constexpr bool kReads = true;
    Reader(const std::uint8_t* payload, std::size_t bytes) : start_(payload), bytes_(bytes) {}
    template <class T>
    void value(T& value) {
        std::memcpy(&value, take(sizeof(T)), sizeof(T));
    }
    void flag(bool& value) { value = *take(1) != 0; }
    template <class Int>
    std::size_t count(std::size_t, const char*) {
        Int count;
        value(count);
        return count;
    }
    template <class T>
    void array(View<T>& view, std::size_t count) {
        if (count > left() / sizeof(T)) bad("an array is longer than its frame");
        view = {reinterpret_cast<const T*>(take(count * sizeof(T))), count};
    }
    void text(std::string_view& view, std::size_t bytes) { view = {reinterpret_cast<const char*>(take(bytes)), bytes}; }
    void reserved(std::size_t bytes) { take(bytes); }
    // Behind a message's arrays: u16 kind, u16 flags, u32 bytes, then the bytes; each begins at a multiple of 8. None
    // is known yet.
    void skip_sections(std::size_t count) {
        for (; count > 0; --count) {
            while (at_ % 8 != 0) take(1);
            std::uint16_t kind, flags;
            std::uint32_t bytes;
            value(kind);
            value(flags);
            if ((flags & kOptionalFlag) == 0) bad("a frame has a section that is required and unknown");
            value(bytes);
            take(bytes);
        }
    }
    void end() const {
        if (left() != 0) bad("a frame is longer than what it says");
    }

 private:
    std::size_t left() const { return bytes_ - at_; }
    const std::uint8_t* take(std::size_t bytes) {
        if (bytes > left()) bad("a frame is shorter than what it says");
        at_ += bytes;
        return start_ + at_ - bytes;
    }
    const std::uint8_t* start_;
    std::size_t bytes_;
    std::size_t at_ = 0;
};

}  // namespace edgespec::wire
