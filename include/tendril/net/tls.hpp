// TLS for streams and servers, by OpenSSL: link with libssl and libcrypto. (Not included by
// tendril.hpp.)
//
//   auto context = tendril::net::tls_context::client();
//   tendril::stream s = tendril::net::create_tls_connection("www.debian.org", 443, context);
//
//   auto mine = tendril::net::tls_context::server("chain.pem", "key.pem");
//   tendril::net::stream_server server(where, handler, {.wrap = tendril::net::accept_tls(mine)});
//
// TLS 1.2 and later. Clients verify the server's certificate and name. A connection that ends
// without a TLS close_notify may have been truncated by an attacker: that is a tls_error, unless
// the context allows it. As with every stream, one fiber may read while another writes. Every wait
// is a cancellation point. (ssl.SSLContext, gevent.ssl)
#pragma once

#include "../detail/cxx20.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../detail/remote_wait.hpp"
#include "../stream.hpp"
#include "create_connection.hpp"
#include "socket.hpp"

namespace tendril::net {

// An error of OpenSSL: in a handshake, a certificate, a record. (ssl.SSLError)
class tls_error : public error {
 public:
  using error::error;

  // Makes an exception of the oldest error in this kernel thread's OpenSSL queue, and empties the
  // queue.
  static tls_error last(const std::string& what) {
    unsigned long e = ERR_get_error();
    ERR_clear_error();
    const char* reason = e ? ERR_reason_error_string(e) : nullptr;
    return tls_error(what + ": " + (reason ? reason : "unknown error"));
  }
};

// Certificates and settings for any number of connections. Copies are handles of the same context.
// Configure it before its first use; after that, any kernel thread may use it. (ssl.SSLContext)
class [[nodiscard]] tls_context {
 public:
  // A context for clients. It trusts the authorities in a PEM file; if none is given, the system's.
  // Throws tls_error.
  static tls_context client(const std::string& authorities = {}) {
    tls_context c(TLS_client_method());
    SSL_CTX_set_verify(c.get(), SSL_VERIFY_PEER, nullptr);
    if (authorities.empty()
            ? SSL_CTX_set_default_verify_paths(c.get()) != 1
            : SSL_CTX_load_verify_locations(c.get(), authorities.c_str(), nullptr) != 1)
      throw tls_error::last("authorities " + authorities);
    return c;
  }
  // A context for servers, with a certificate (followed by its chain up to the authority) and its
  // key, in PEM files. Throws tls_error.
  static tls_context server(const std::string& certificate_chain, const std::string& key) {
    tls_context c(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(c.get(), certificate_chain.c_str()) != 1)
      throw tls_error::last(certificate_chain);
    if (SSL_CTX_use_PrivateKey_file(c.get(), key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c.get()) != 1)
      throw tls_error::last(key);
    return c;
  }

  // Accepts any server certificate: for tests only. (verify_mode = CERT_NONE)
  tls_context& trust_anybody() {
    SSL_CTX_set_verify(get(), SSL_VERIFY_NONE, nullptr);
    settings_->checks_names = false;
    return *this;
  }
  // Makes a server request client certificates and verify them by the authorities in a PEM file.
  // Throws tls_error.
  tls_context& require_client_certificates(const std::string& authorities) {
    if (SSL_CTX_load_verify_locations(get(), authorities.c_str(), nullptr) != 1)
      throw tls_error::last(authorities);
    SSL_CTX_set_verify(get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    return *this;
  }
  // Sets the supported application protocols ("h2", "http/1.1"), the preferred one first. Throws
  // std::invalid_argument. (set_alpn_protocols)
  tls_context& protocols(const std::vector<std::string>& names) {
    std::string& wire = settings_->protocols;
    wire.clear();
    for (auto& n : names) {
      if (n.empty() || n.size() > 255)
        throw std::invalid_argument("the name of a protocol must have 1 to 255 bytes");
      wire += static_cast<char>(n.size());
      wire += n;
    }
    if (SSL_CTX_set_alpn_protos(get(), bytes(wire), unsigned(wire.size())) != 0)
      throw std::bad_alloc();
    SSL_CTX_set_alpn_select_cb(get(), choose, settings_.get());
    return *this;
  }
  // Treats a connection that ends without close_notify as a normal end. (suppress_ragged_eofs)
  tls_context& allow_truncation() {
    settings_->allows_truncation = true;
    return *this;
  }

  // OpenSSL's context, for settings that have no function here.
  SSL_CTX* get() const noexcept { return context_.get(); }
  bool checks_names() const noexcept { return settings_->checks_names; }
  bool allows_truncation() const noexcept { return settings_->allows_truncation; }

 private:
  struct settings {
    std::string protocols;
    bool checks_names = true, allows_truncation = false;
  };
  explicit tls_context(const SSL_METHOD* m) : context_(SSL_CTX_new(m), SSL_CTX_free) {
    if (!context_) throw tls_error::last("SSL_CTX_new");
    SSL_CTX_set_min_proto_version(get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(get(), SSL_MODE_RELEASE_BUFFERS);
  }
  static const unsigned char* bytes(const std::string& s) noexcept {
    return reinterpret_cast<const unsigned char*>(s.data());
  }
  static int choose(SSL*, const unsigned char** out, unsigned char* length,
                    const unsigned char* offered, unsigned n, void* mine) {
    auto& p = static_cast<settings*>(mine)->protocols;
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, length, bytes(p), unsigned(p.size()), offered, n) !=
        OPENSSL_NPN_NEGOTIATED)
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
  }

  // (Declared first, and so destroyed last: the context's callback uses it.)
  std::shared_ptr<settings> settings_ = std::make_shared<settings>();
  std::shared_ptr<SSL_CTX> context_;
};

// The transport of a stream over TLS. OpenSSL reads and writes memory only, so that no fiber waits
// inside it and one fiber may read while another writes.
class tls_transport : public transport {
 public:
  // Performs the handshake: as a client of `server_name` (a name, or a numeric address), or as a
  // server if that is null. Throws tls_error if the certificate is not trusted or is for another
  // name, or if the other side does not speak TLS. A cancellation point.
  tls_transport(socket s, tls_context c, const std::string* server_name)
      : socket_(std::move(s)), context_(std::move(c)), ssl_(SSL_new(context_.get()), SSL_free) {
    if (!ssl_) throw tls_error::last("SSL_new");
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    if (!in_ || !out_) {
      BIO_free(in_);
      BIO_free(out_);
      throw std::bad_alloc();
    }
    BIO_set_mem_eof_return(in_, -1);  // an empty buffer is not the end
    SSL_set_bio(ssl_.get(), in_, out_);
    if (server_name) {
      expect(*server_name);
      SSL_set_connect_state(ssl_.get());
    } else {
      SSL_set_accept_state(ssl_.get());
    }
    run("TLS handshake", [&] { return SSL_do_handshake(ssl_.get()); });
    ready_ = true;
  }
  ~tls_transport() override { close(); }

  std::size_t read_some(void* to, std::size_t n) override {
    return std::size_t(
        run("TLS", [&] { return SSL_read(ssl_.get(), to, int(std::min(n, most))); }));
  }
  void write_all(std::string_view data) override {
    while (!data.empty()) {
      int n = run("TLS", [&] {
        return SSL_write(ssl_.get(), data.data(), int(std::min(data.size(), most)));
      });
      data.remove_prefix(std::size_t(n));
    }
  }
  void end_writing() override {
    SSL_shutdown(ssl_.get());
    take_output();
    flush(true);
  }
  // Sends close_notify if that is possible without waiting, then closes the socket.
  void close() noexcept override {
    if (!socket_) return;
    if (ready_ && !broken_ && !sending_ && !(SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN)) {
      ERR_clear_error();
      SSL_shutdown(ssl_.get());
      char* p;
      long n = BIO_get_mem_data(out_, &p);
      if (n > 0)
        (void)posix::send(socket_.descriptor(), p, std::size_t(n), MSG_DONTWAIT | MSG_NOSIGNAL);
      ERR_clear_error();
    }
    socket_.close();
  }
  int descriptor() const noexcept override { return socket_.descriptor(); }

  // The protocol version ("TLSv1.3"); the negotiated application protocol, or an empty string; the
  // cipher.
  std::string version() const { return SSL_get_version(ssl_.get()); }
  std::string protocol() const {
    const unsigned char* p;
    unsigned n;
    SSL_get0_alpn_selected(ssl_.get(), &p, &n);
    return std::string(reinterpret_cast<const char*>(p), n);
  }
  std::string cipher() const { return SSL_get_cipher_name(ssl_.get()); }
  // OpenSSL's connection, for functions that are not here; not for reading and writing.
  SSL* get() const noexcept { return ssl_.get(); }

 private:
  static constexpr std::size_t most = 64 * 1024;
  static constexpr detail::remote_wait::manner local{.kind = core::wait_kind::descriptor,
                                                     .remote = false};

  void expect(const std::string& name) {
    bool numeric = true;
    try {
      (void)address::ip(name, 0);
    } catch (const std::invalid_argument&) {
      numeric = false;
    }
    if (!numeric) SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
    if (!context_.checks_names()) return;
    if (numeric) X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), name.c_str());
    else SSL_set1_host(ssl_.get(), name.c_str());
  }

  // Repeats an OpenSSL call until it needs no more input. Returns its result; 0 if the other side
  // has ended.
  template <class Call>
  int run(const char* what, Call call) {
    for (;;) {
      if (broken_) std::rethrow_exception(broken_);
      std::uint64_t seen = received_;
      ERR_clear_error();
      int r = call();
      int why = SSL_get_error(ssl_.get(), r);
      unsigned long e = ERR_peek_error();
      // the queue belongs to the kernel thread, and other fibers are about to run
      ERR_clear_error();
      bool wrote = take_output();
      if (why == SSL_ERROR_SSL || why == SSL_ERROR_SYSCALL) {
        auto failure = describe(what, e);
        try {
          flush(false);  // an alert that states the reason
        } catch (const std::exception&) {}
        if (ended_ && ready_ && context_.allows_truncation()) return 0;
        throw failure;
      }
      flush(wrote && why != SSL_ERROR_WANT_READ);
      if (why == SSL_ERROR_NONE) return r;
      if (why == SSL_ERROR_ZERO_RETURN) return 0;
      if (why == SSL_ERROR_WANT_READ) receive(seen);
    }
  }
  tls_error describe(const char* what, unsigned long e) const {
    if (ended_) return tls_error(std::string(what) + ": the connection ended without close_notify");
    std::string s = what;
    const char* reason = e ? ERR_reason_error_string(e) : nullptr;
    s += ": " + std::string(reason ? reason : "unknown error");
    long v = SSL_get_verify_result(ssl_.get());
    if (v != X509_V_OK) s += std::string(" (") + X509_verify_cert_error_string(v) + ")";
    return tls_error(s);
  }

  // Moves OpenSSL's output to the queue before another fiber can run, so that the records stay in
  // order.
  bool take_output() {
    char* p;
    long n = BIO_get_mem_data(out_, &p);
    if (n <= 0) return false;
    queue_.append(p, std::size_t(n));
    queued_ += std::uint64_t(n);
    (void)BIO_reset(out_);
    return true;
  }
  // Sends the queue. If another fiber is sending already, it sends this output too; `wait` says
  // whether to wait for that.
  void flush(bool wait) {
    std::uint64_t mine = queued_;
    if (sending_) {
      if (!wait) return;
      std::unique_lock lock(mutex_);
      changed_.wait(
          lock, clock::time_point::max(), [&] { return sent_ >= mine || !sending_; }, local);
      lock.unlock();
      if (broken_) std::rethrow_exception(broken_);
      if (sent_ >= mine) return;
    }
    if (queue_.empty()) return;
    sending_ = true;
    try {
      while (!queue_.empty()) {
        std::string data = std::exchange(queue_, {});
        socket_.send_all(data);
        sent_ += data.size();
        notify();
      }
    } catch (...) {
      // A record may have been sent in part, so nothing can follow it.
      broken_ =
          std::make_exception_ptr(tls_error("the TLS stream is broken: an earlier write failed"));
      sending_ = false;
      notify();
      throw;
    }
    sending_ = false;
    notify();
  }
  // Waits for bytes, unless some have arrived since `seen`.
  void receive(std::uint64_t seen) {
    if (received_ != seen) return;
    if (receiving_) {
      std::unique_lock lock(mutex_);
      changed_.wait(
          lock, clock::time_point::max(), [&] { return received_ != seen || !receiving_; }, local);
      return;
    }
    receiving_ = true;
    struct over {
      tls_transport& t;
      ~over() {
        t.receiving_ = false;
        t.notify();
      }
    } guard{*this};
    std::string data = socket_.recv(16 * 1024 + 512);
    received_++;
    if (data.empty()) {
      ended_ = true;
      BIO_set_mem_eof_return(in_, 0);
    } else if (BIO_write(in_, data.data(), int(data.size())) != int(data.size())) {
      throw std::bad_alloc();
    }
  }
  void notify() noexcept {
    std::lock_guard lock(mutex_);
    changed_.notify_all();
  }

  socket socket_;
  tls_context context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
  BIO* in_ = nullptr;   // received data; ssl_ owns both
  BIO* out_ = nullptr;  // data to send
  std::string queue_;
  std::uint64_t queued_ = 0, sent_ = 0, received_ = 0;
  bool ready_ = false, sending_ = false, receiving_ = false, ended_ = false;
  std::exception_ptr broken_;
  std::mutex mutex_;
  detail::remote_wait changed_;
};

// Makes a TLS stream over a connected socket, as a client of `server_name`.
// (SSLContext.wrap_socket)
inline stream open_tls(socket s, const tls_context& c, const std::string& server_name) {
  return stream(std::make_unique<tls_transport>(std::move(s), c, &server_name));
}
// create_connection(), then open_tls().
inline stream create_tls_connection(const std::string& host, std::uint16_t port,
                                    const tls_context& c, const connect_options& o = {}) {
  return open_tls(create_connection(host, port, o), c, host);
}
// Returns a function for server_options::wrap: the handshake runs in the handler's task.
[[nodiscard]] inline std::function<stream(socket)> accept_tls(tls_context c) {
  return [c = std::move(c)](socket s) {
    return stream(std::make_unique<tls_transport>(std::move(s), c, nullptr));
  };
}

}  // namespace tendril::net
