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

// Counts what a Writer would write.
class Sizer {
 public:
    template <class T>
    void value(const T&) {
        bytes += sizeof(T);
    }
    template <class T>
    void array(View<T> view) {
        bytes += view.size * sizeof(T);
    }
    void text(std::string_view view) { bytes += view.size(); }
    void align() { bytes = padded(bytes); }

    std::size_t bytes = 0;
};

class Writer {
 public:
    explicit Writer(std::uint8_t* start) : start_(start), at_(start) {}
    template <class T>
    void value(const T& value) {
        put(&value, sizeof(T));
    }
    template <class T>
    void array(View<T> view) {
        put(view.data, view.size * sizeof(T));
    }
    void text(std::string_view view) { put(view.data(), view.size()); }
    void align() {
        while ((at_ - start_) % 8 != 0) *at_++ = 0;
    }

 private:
    void put(const void* data, std::size_t bytes) {
        if (bytes != 0) std::memcpy(at_, data, bytes);
        at_ += bytes;
    }
    std::uint8_t* start_;
    std::uint8_t* at_;
};

class Reader {
 public:
    Reader(const std::uint8_t* payload, std::size_t bytes) : start_(payload), bytes_(bytes) {}
    template <class T>
    T value() {
        T value;
        std::memcpy(&value, take(sizeof(T)), sizeof(T));
        return value;
    }
    template <class T>
    View<T> array(std::size_t count) {
        if (count > left() / sizeof(T)) bad("an array is longer than its frame");
        return {reinterpret_cast<const T*>(take(count * sizeof(T))), count};
    }
    std::string_view text(std::size_t bytes) { return {reinterpret_cast<const char*>(take(bytes)), bytes}; }
    void align() {
        while (at_ % 8 != 0) take(1);
    }
    std::size_t left() const { return bytes_ - at_; }
    void end() const {
        if (left() != 0) bad("a frame is longer than what it says");
    }

 private:
    const std::uint8_t* take(std::size_t bytes) {
        if (bytes > left()) bad("a frame is shorter than what it says");
        at_ += bytes;
        return start_ + at_ - bytes;
    }
    const std::uint8_t* start_;
    std::size_t bytes_;
    std::size_t at_ = 0;
};

template <class Int>
Int narrow(std::size_t value, const char* what) {
    if (value > std::numeric_limits<Int>::max()) bad(std::string(what) + " is too long");
    return static_cast<Int>(value);
}

inline void check_share(double value, const char* what) {
    if (!(value >= 0 && value <= 1)) bad(std::string(what) + " lies outside 0 to 1");
}

}  // namespace edgespec::wire
