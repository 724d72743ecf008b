// CHECK(condition): ends the test with a line that says where it failed. Each test file is a program of its own.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                \
        }                                                                                \
    } while (false)

template <class Error, class Function>
bool throws(Function function) {
    try {
        function();
    } catch (const Error&) {
        return true;
    }
    return false;
}
