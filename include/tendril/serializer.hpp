// Converts values to bytes and back, to send them to another process of this program.
//
// A trivially copyable value is sent as it is. Pointers to objects are refused, because they mean
// nothing in another process; structures that contain pointers are not detected and must not be
// sent. Strings, pairs, tuples, optionals, variants, and standard containers of serializable values
// are supported too. For a type of your own, specialise serializer:
//
//   template <> struct tendril::serializer<person> {
//     static void write(tendril::byte_sink& to, const person& p) { to << p.name << p.age; }
//     static person read(tendril::byte_source& from) {
//       auto name = from.read<std::string>();      // in the order of writing
//       return {std::move(name), from.read<int>()};
//     }
//   };
//
// The bytes can be read only by the same program on the same machine: do not store them in files or
// send them over a network. Any kernel thread may use this.
#pragma once

#include "detail/cxx20.hpp"

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "error.hpp"

namespace tendril {

template <class T>
struct serializer;

class byte_sink;
class byte_source;

// Types that have a serializer.
template <class T>
concept serializable = requires(byte_sink& to, byte_source& from, const T& value) {
  serializer<T>::write(to, value);
  { serializer<T>::read(from) } -> std::same_as<T>;
};

// Collects the bytes that are written.
class byte_sink {
 public:
  // Writes n bytes as they are.
  void append(const void* p, std::size_t n) { bytes_.append(static_cast<const char*>(p), n); }
  template <serializable T>
  byte_sink& operator<<(const T& value) {
    serializer<T>::write(*this, value);
    return *this;
  }
  // The bytes written so far; moved out of a temporary.
  const std::string& bytes() const& noexcept { return bytes_; }
  std::string bytes() && noexcept { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads values from bytes, in the order in which they were written. Throws `error` if the bytes end
// too soon.
class byte_source {
 public:
  // `bytes` must outlive this object.
  explicit byte_source(std::string_view bytes) noexcept : left_(bytes) {}
  // Reads n bytes as they are.
  void take(void* p, std::size_t n) {
    if (n > left_.size()) throw error("the bytes of a value are incomplete");
    if (n) std::memcpy(p, left_.data(), n);
    left_.remove_prefix(n);
  }
  template <serializable T>
  T read() {
    return serializer<T>::read(*this);
  }
  // The number of bytes that have not been read.
  std::size_t left() const noexcept { return left_.size(); }

 private:
  std::string_view left_;
};

namespace detail {

template <class T>
inline constexpr bool refers =
    std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>;
template <class C, class Tr>
inline constexpr bool refers<std::basic_string_view<C, Tr>> = true;
template <class T>
inline constexpr bool refers<std::reference_wrapper<T>> = true;
template <class T>
concept copied_as_bytes =
    std::is_trivially_copyable_v<T> && !refers<T> && !std::is_reference_v<T> &&
    !std::ranges::borrowed_range<T> && !std::is_const_v<T>;

// A tuple or pair of serializable types.
template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = (serializable<T> && ...);
template <class A, class B>
inline constexpr bool is_tuple<std::pair<A, B>> = serializable<A> && serializable<B>;

// The type to build a container's element from: a map's keys are const in the container.
template <class T>
struct loose {
  using type = T;
};
template <class A, class B>
struct loose<std::pair<const A, B>> {
  using type = std::pair<A, B>;
};

template <class T>
concept container = std::ranges::forward_range<T> && std::default_initializable<T> &&
                    requires(T& c, typename T::value_type v) { c.insert(c.end(), std::move(v)); };

}  // namespace detail

template <detail::copied_as_bytes T>
struct serializer<T> {
  static void write(byte_sink& to, const T& value) { to.append(&value, sizeof value); }
  static T read(byte_source& from) {
    std::array<std::byte, sizeof(T)> bytes;
    from.take(bytes.data(), sizeof(T));
    return std::bit_cast<T>(bytes);
  }
};

// Strings, vectors, lists, sets, maps.
template <class T>
  requires(!detail::copied_as_bytes<T> && detail::container<T> &&
           serializable<typename detail::loose<typename T::value_type>::type>)
struct serializer<T> {
  using item = typename detail::loose<typename T::value_type>::type;
  static void write(byte_sink& to, const T& values) {
    std::size_t n = 0;
    for (auto i = values.begin(); i != values.end(); ++i) n++;
    to << n;
    if constexpr (std::same_as<T, std::string>) {
      to.append(values.data(), n);
    } else {
      for (const auto& v : values) {
        if constexpr (std::same_as<item, typename T::value_type>) to << static_cast<const item&>(v);
        else to << v.first << v.second;
      }
    }
  }
  static T read(byte_source& from) {
    auto n = from.read<std::size_t>();
    T values;
    if constexpr (std::same_as<T, std::string>) {
      if (n > from.left()) throw error("the bytes of a value are incomplete");
      values.resize(n);
      from.take(values.data(), n);
    } else {
      while (n-- > 0) values.insert(values.end(), from.read<item>());
    }
    return values;
  }
};

template <class T>
  requires(!detail::copied_as_bytes<T> && detail::is_tuple<T>)
struct serializer<T> {
  static void write(byte_sink& to, const T& value) {
    std::apply([&](const auto&... v) { (void)(to << ... << v); }, value);
  }
  static T read(byte_source& from) {
    return read(from, std::make_index_sequence<std::tuple_size_v<T>>());
  }

 private:
  template <std::size_t... I>
  static T read([[maybe_unused]] byte_source& from, std::index_sequence<I...>) {
    return T{from.read<std::tuple_element_t<I, T>>()...};  // braces evaluate from left to right
  }
};

template <class V>
  requires(!detail::copied_as_bytes<std::optional<V>> && serializable<V>)
struct serializer<std::optional<V>> {
  static void write(byte_sink& to, const std::optional<V>& value) {
    to << value.has_value();
    if (value) to << *value;
  }
  static std::optional<V> read(byte_source& from) {
    if (!from.read<bool>()) return std::nullopt;
    return from.read<V>();
  }
};

template <class... V>
  requires(!detail::copied_as_bytes<std::variant<V...>> && (serializable<V> && ...))
struct serializer<std::variant<V...>> {
  using variant = std::variant<V...>;
  static void write(byte_sink& to, const variant& value) {
    to << value.index();
    std::visit([&](const auto& v) { to << v; }, value);
  }
  static variant read(byte_source& from) {
    return read(from, from.read<std::size_t>(), std::make_index_sequence<sizeof...(V)>());
  }

 private:
  template <std::size_t... I>
  static variant read(byte_source& from, std::size_t which, std::index_sequence<I...>) {
    std::optional<variant> value;
    (void)((I == which && (value.emplace(std::in_place_index<I>,
                                         from.read<std::variant_alternative_t<I, variant>>()),
                           true)) ||
           ...);
    if (!value) throw error("the bytes of a variant have an invalid index");
    return std::move(*value);
  }
};

}  // namespace tendril
