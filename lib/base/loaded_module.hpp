// A program or library that the loader has loaded: the names that it defines and those that it
// uses. Read from its dynamic section (of the gABI) and the hash table of the GNU linkers, as the
// loader itself reads them: what the loader has accepted is taken to be well-formed.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>

namespace tendril::core {

class loaded_module {
 public:
  explicit loaded_module(const dl_phdr_info& info) noexcept;

  // The address of what it defines under that name, in the default version; null: nothing. Of a
  // thread-local variable: the instance of the kernel thread that made this object.
  void* find(const char* name, std::uint32_t hash_of_name) const noexcept;
  // The hash of a name, for find().
  static std::uint32_t hash_of(const char* name) noexcept;
  // Whether it uses a function of that name that it does not define.
  bool imports(const char* name) const noexcept;
  // Whether its mapped addresses include p.
  bool has(const void* p) const noexcept {
    auto at = reinterpret_cast<std::uintptr_t>(p);
    return at >= first_ && at < end_;
  }

 private:
  bool is(std::uint32_t i, const char* name) const noexcept;
  void* address(std::uint32_t i) const noexcept;

  // from first_ to end_: its mapped addresses
  std::uintptr_t base_ = 0, first_ = 0, end_ = 0;
  std::uintptr_t thread_local_block_ = 0;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = nullptr;
  const std::uint32_t* gnu_hash_ = nullptr;
  const std::uint32_t* hash_ = nullptr;  // ELF's own
  const ElfW(Half) * versions_ = nullptr;
  // Called functions appear in the relocations of the PLT (the first table); functions whose
  // address is taken appear in the other ones.
  const ElfW(Rela) * relocations_[2] = {};
  std::size_t relocations_size_[2] = {};  // in bytes
};

}  // namespace tendril::core
