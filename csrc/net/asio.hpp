// Asio, from Boost's headers or standalone: the rest of csrc/net says only `asio`. Its parts one by one, as the whole
// doubles a compiler's memory.
#pragma once

#include <utility>

#ifdef EDGESPEC_STANDALONE_ASIO
#define EDGESPEC_ASIO(part) <asio/part>
#include <system_error>
#else
#define EDGESPEC_ASIO(part) <boost/asio/part>
#endif

// clang-format off
#include EDGESPEC_ASIO(buffer.hpp)
#include EDGESPEC_ASIO(connect.hpp)
#include EDGESPEC_ASIO(executor_work_guard.hpp)
#include EDGESPEC_ASIO(io_context.hpp)
#include EDGESPEC_ASIO(ip/tcp.hpp)
#include EDGESPEC_ASIO(post.hpp)
#include EDGESPEC_ASIO(steady_timer.hpp)
#include EDGESPEC_ASIO(write.hpp)
// clang-format on

namespace edgespec::net {
#ifdef EDGESPEC_STANDALONE_ASIO
namespace asio = ::asio;
using ErrorStatus = std::error_code;
using SystemError = std::system_error;
#else
namespace asio = boost::asio;
using ErrorStatus = boost::system::error_code;
using SystemError = boost::system::system_error;
#endif

// A name for headers that do without Asio.
struct Socket : asio::ip::tcp::socket {
    Socket(asio::ip::tcp::socket&& socket) : asio::ip::tcp::socket(std::move(socket)) {}
};
}  // namespace edgespec::net
