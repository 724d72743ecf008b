// Asio, from Boost's headers or standalone: the rest of csrc/net says only `asio`.
#pragma once

#ifdef EDGESPEC_STANDALONE_ASIO
#include <asio.hpp>
#include <system_error>
namespace edgespec::net {
namespace asio = ::asio;
using ErrorStatus = std::error_code;
using SystemError = std::system_error;
}  // namespace edgespec::net
#else
#include <boost/asio.hpp>
namespace edgespec::net {
namespace asio = boost::asio;
using ErrorStatus = boost::system::error_code;
using SystemError = boost::system::system_error;
}  // namespace edgespec::net
#endif
