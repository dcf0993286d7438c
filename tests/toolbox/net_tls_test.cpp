// TLS streams and servers, with the semantics of Python's ssl module (test_ssl).
#include <doctest/doctest.h>
#include <stdlib.h>
#include <tendril/net/stream_server.hpp>
#include <tendril/net/tls.hpp>
#include <tendril/task.hpp>

#include <openssl/pem.h>

#include <cstdio>
#include <filesystem>

#include "ticker.hpp"

using namespace tendril;
using namespace std::chrono_literals;
using net::address;
using net::tls_context;

namespace {

// A self-signed certificate for localhost and 127.0.0.1, and its key.
struct certificate {
  std::string folder, chain, key;
  certificate() {
    char name[] = "/tmp/tendril-tls-XXXXXX";
    folder = ::mkdtemp(name);
    chain = folder + "/chain.pem";
    key = folder + "/key.pem";
    EVP_PKEY* k = EVP_EC_gen("P-256");
    X509* x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, k);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("tendril test"), -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    for (auto [nid, value] : {std::pair(NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1"),
                              std::pair(NID_basic_constraints, "critical,CA:TRUE")}) {
      X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
      X509_add_ext(x, e, -1);
      X509_EXTENSION_free(e);
    }
    X509_sign(x, k, EVP_sha256());
    FILE* f = std::fopen(chain.c_str(), "w");
    PEM_write_X509(f, x);
    std::fclose(f);
    f = std::fopen(key.c_str(), "w");
    PEM_write_PrivateKey(f, k, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(f);
    X509_free(x);
    EVP_PKEY_free(k);
  }
  ~certificate() { std::filesystem::remove_all(folder); }
};
const certificate& mine() {
  static certificate c;
  return c;
}

void echo(stream& s) {
  for (auto& line : s.lines()) {
    s.write(line + "\n");
    s.flush();
  }
}
// A server, the exceptions of its handlers, and a client's context that trusts it.
struct fixture {
  std::vector<std::string> errors;
  tls_context theirs;
  tls_context context;
  net::stream_server server;
  template <class Handler>
  explicit fixture(Handler h)
      : theirs(tls_context::server(mine().chain, mine().key)),
        context(tls_context::client(mine().chain)),
        server(address::loopback(0), h,
               {.on_error =
                    [this](std::exception_ptr e) {
                      try {
                        std::rethrow_exception(e);
                      } catch (const std::exception& x) {
                        errors.push_back(x.what());
                      }
                    },
                .wrap = net::accept_tls(theirs)}) {
    server.start();
  }
  fixture() : fixture(echo) {}
  net::socket plain() const { return net::create_connection(server.where()); }
  stream connect(const std::string& name = "localhost") const {
    return net::open_tls(plain(), context, name);
  }
};
std::string ask(stream& s, const std::string& line) {
  s.write(line + "\n");
  s.flush();
  return s.read_line().value_or("the end");
}
std::string failure(auto call) {
  try {
    call();
  } catch (const net::tls_error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("net::tls");

TEST_CASE("client and server talk over TLS, and both know its version") {
  fixture f;
  stream s = net::create_tls_connection("localhost", f.server.where().port(), f.context);
  CHECK(ask(s, "hello") == "hello");
  auto* t = dynamic_cast<net::tls_transport*>(s.below());
  REQUIRE(t);
  CHECK(t->version() == "TLSv1.3");
  CHECK_FALSE(t->cipher().empty());
  CHECK(t->protocol() == "");
}

TEST_CASE("a numeric address is verified as such") {
  fixture f;
  stream s = f.connect("127.0.0.1");
  CHECK(ask(s, "x") == "x");
}

TEST_CASE(
    "a certificate for another name, or by an unknown authority, is refused, unless any is "
    "trusted") {
  fixture f;
  CHECK(failure([&] { (void)f.connect("other.example"); }).find("ostname mismatch") !=
        std::string::npos);
  CHECK(failure([&] { (void)f.connect("127.0.0.2"); }).find("mismatch") != std::string::npos);
  tls_context system = tls_context::client();
  CHECK(failure([&] {
          (void)net::open_tls(f.plain(), system, "localhost");
        }).find("certificate verify failed") != std::string::npos);
  system.trust_anybody();
  stream s = net::open_tls(f.plain(), system, "other.example");
  CHECK(ask(s, "x") == "x");
}

TEST_CASE("application protocols are negotiated") {
  fixture f;
  f.theirs.protocols({"h2", "http/1.1"});
  f.context.protocols({"http/1.1", "spdy"});
  stream s = f.connect();
  CHECK(dynamic_cast<net::tls_transport&>(*s.below()).protocol() == "http/1.1");
  f.context.protocols({"spdy"});
  CHECK(failure([&] { (void)f.connect(); }) != "");
}

TEST_CASE("clients can be asked for certificates") {
  fixture f;
  f.theirs.require_client_certificates(mine().chain);
  // In TLS 1.3, the client gets the error when it reads.
  CHECK(failure([&] {
          stream s = f.connect();
          s.read_line();
        }) != "");
  SSL_CTX_use_certificate_file(f.context.get(), mine().chain.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_use_PrivateKey_file(f.context.get(), mine().key.c_str(), SSL_FILETYPE_PEM);
  stream s = f.connect();
  CHECK(ask(s, "x") == "x");
}

TEST_CASE(
    "much data goes both ways at once, by a fiber that reads and one that writes, while others "
    "run") {
  fixture f([](stream& s) {
    for (std::string piece; !(piece = s.read_some()).empty();) {
      s.write(piece);
      s.flush();
    }
  });
  stream s = f.connect();
  ticker other;
  auto reads = spawn([&] { return s.read_all(); });
  std::string sent;
  for (int i = 0; i < 64; i++) {
    std::string piece(50'000, char('a' + i % 26));
    s.write(piece);
    sent += piece;
  }
  s.end_writing();
  CHECK((reads.get() == sent));
}

TEST_CASE("end_writing is the end for the other side, which may still answer") {
  fixture f([](stream& s) {
    auto n = s.read_all().size();
    s.write(std::to_string(n));
  });
  stream s = f.connect();
  s.write("12345");
  s.end_writing();
  CHECK(s.read_all() == "5");
}

TEST_CASE("many connections at once") {
  fixture f;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 30; i++) {
    tasks.push_back(spawn([&, i] {
      stream s = f.connect();
      for (int k = 0; k < 5; k++) CHECK(ask(s, std::to_string(i)) == std::to_string(i));
    }));
  }
  joinall(tasks);
  for (auto& t : tasks) t.get();
}

TEST_CASE("a truncated connection is an error, unless that is allowed") {
  fixture f([](stream& s) {
    s.write("half");
    s.flush();
    ::shutdown(s.descriptor(), SHUT_RDWR);
  });
  stream s = f.connect();
  CHECK(s.read_exactly(4) == "half");
  CHECK(failure([&] { s.read_some(); }) == "TLS: the connection ended without close_notify");
  f.context.allow_truncation();
  stream t = f.connect();
  CHECK(t.read_all() == "half");
}

TEST_CASE("a handshake that is cut off is an error, also where truncation is allowed") {
  net::socket listener = net::listen_on(address::loopback(0));
  auto cuts_off = spawn([&] { (void)listener.accept().recv(10000); });
  auto context = net::tls_context::client();
  context.trust_anybody().allow_truncation();
  CHECK(failure([&] {
          (void)net::open_tls(net::create_connection(listener.local_address()), context,
                              "localhost");
        }) == "TLS handshake: the connection ended without close_notify");
}

TEST_CASE("a client that does not speak TLS is reported, and the server goes on") {
  fixture f;
  net::socket c = f.plain();
  c.send_all("GET / HTTP/1.0\r\n\r\n");
  while (!c.recv(1000).empty()) {}
  REQUIRE(f.errors.size() == 1);
  CHECK(f.errors[0].starts_with("TLS handshake: "));
  stream s = f.connect();
  CHECK(ask(s, "x") == "x");
}

TEST_CASE("a silent client delays only itself") {
  fixture f;
  net::socket silent = f.plain();
  stream s = f.connect();
  CHECK(ask(s, "x") == "x");
}

TEST_CASE("a kill ends a read, and the stream goes on") {
  fixture f;
  stream s = f.connect();
  auto reads = spawn([&] { return s.read_line(); });
  ticker().await(2);
  reads.kill();
  CHECK(ask(s, "x") == "x");
}

TEST_CASE("missing files, and files that are not certificates, are refused") {
  CHECK_THROWS_AS(tls_context::server("/nonexistent", mine().key), net::tls_error);
  CHECK_THROWS_AS(tls_context::server(mine().chain, mine().chain), net::tls_error);
  CHECK_THROWS_AS(tls_context::client("/nonexistent"), net::tls_error);
}

TEST_SUITE_END();
