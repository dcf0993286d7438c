// Names in loaded modules, against a search of the list of symbols. An input describes a module,
// which is laid out as linkers do it: lib/ trusts what the loader has loaded, so the tables are
// well-formed, but any of them may be missing or empty.
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "base/loaded_module.hpp"
#include "input.hpp"

using fuzz::expect;
using tendril::core::loaded_module;

namespace {

const std::string names[] = {"", "a", "b", "ab", "ba", "bB", "read", "a_name_that_is_longer"};

char chosen;  // what the only resolver of an indirect function chooses
void* resolver(unsigned long) { return &chosen; }

struct symbol {
  unsigned name, bind, type, section, value, version;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  static const unsigned binds[] = {STB_LOCAL, STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE, 7};
  static const unsigned types[] = {STT_NOTYPE, STT_OBJECT, STT_FUNC,     STT_SECTION,
                                   STT_TLS,    STT_COMMON, STT_GNU_IFUNC};
  unsigned with = in.number();  // which tables there are
  bool has_symbols = !(with & 1), has_strings = !(with & 2), has_gnu = with & 4,
       has_hash = with & 8, has_versions = with & 16, has_tls = with & 32, has_base = with & 64;
  unsigned buckets = in.below(5), words = 1U << in.below(3), shift = in.below(32);
  std::vector<symbol> symbols(1);  // the first is null
  for (unsigned n = in.below(24); n; n--) {
    symbols.push_back({in.below(8), binds[in.below(5)], types[in.below(7)], in.below(3),
                       in.below(4), in.below(4)});
  }
  // The hash table has those that are defined, by bucket, and behind the others.
  auto hash = [](const symbol& s) { return loaded_module::hash_of(names[s.name].c_str()); };
  std::size_t hashed = symbols.size();
  if (has_gnu) {
    auto begin = symbols.begin() + 1;
    auto first = buckets ? std::stable_partition(begin, symbols.end(),
                                                 [](const symbol& s) { return s.section == 0; })
                         : symbols.end();
    std::stable_sort(first, symbols.end(), [&](const symbol& a, const symbol& b) {
      return hash(a) % buckets < hash(b) % buckets;
    });
    hashed = std::size_t(first - symbols.begin());
  }

  std::string strings;
  std::vector<unsigned> at;
  for (const std::string& s : names) {
    at.push_back(unsigned(strings.size()));
    strings += s;
    strings += '\0';
  }
  std::vector<char> text(strings.begin(), strings.end());  // a byte beyond it is an error
  char variables[16];
  // Where the module is, if it is not where it was linked for.
  std::uintptr_t base =
      has_base ? (reinterpret_cast<std::uintptr_t>(variables) & ~0xfffUL) - 0x1000 : 0;
  std::vector<ElfW(Sym)> table;
  std::vector<ElfW(Half)> versions;
  for (const symbol& s : symbols) {
    ElfW(Sym) e{};
    e.st_name = at[s.name];
    e.st_info = (unsigned char)(ELF64_ST_INFO(s.bind, s.type));
    e.st_shndx = ElfW(Half)(s.section);
    if (s.type == STT_TLS) e.st_value = s.value;
    else if (s.value)
      e.st_value =
          (s.type == STT_GNU_IFUNC ? reinterpret_cast<std::uintptr_t>(resolver)
                                   : reinterpret_cast<std::uintptr_t>(variables) + s.value) -
          base;
    table.push_back(e);
    versions.push_back(ElfW(Half)(s.version == 3 ? 0x8002 : s.version));
  }

  // The GNU hash table: its header, the filter, the buckets, the chains. Its words of 64 bits are
  // aligned.
  std::size_t chains = symbols.size() - hashed;
  std::vector<std::uint64_t> room((4 + 2 * words + buckets + chains + 1) / 2);
  auto* gnu = reinterpret_cast<std::uint32_t*>(room.data());
  gnu[0] = buckets;
  gnu[1] = std::uint32_t(hashed);
  gnu[2] = buckets ? words : 0;
  gnu[3] = shift;
  std::uint64_t* filter = room.data() + 2;
  auto* bucket = reinterpret_cast<std::uint32_t*>(filter + gnu[2]);
  std::uint32_t* chain = bucket + buckets;
  for (std::size_t i = hashed; i < symbols.size(); i++) {
    std::uint32_t h = hash(symbols[i]);
    filter[h / 64 % words] |= 1ULL << (h % 64) | 1ULL << ((h >> shift) % 64);
    std::uint32_t& b = bucket[h % buckets];
    if (!b) b = std::uint32_t(i);
    bool last = i + 1 == symbols.size() || hash(symbols[i + 1]) % buckets != h % buckets;
    chain[i - hashed] = (h & ~1U) | last;
  }
  std::vector<std::uint32_t> elf_hash{1, std::uint32_t(symbols.size()), 0};

  std::vector<ElfW(Rela)> relocations[2];
  for (auto& r : relocations) {
    for (unsigned n = in.below(6); n; n--)
      r.push_back({0, ELF64_R_INFO(in.below(unsigned(symbols.size())), 1), 0});
  }

  std::vector<ElfW(Dyn)> dynamic;
  auto add = [&](ElfW(Sxword) tag, const void* p) {
    dynamic.push_back({tag, {.d_ptr = reinterpret_cast<ElfW(Addr)>(p)}});
  };
  auto add_size = [&](ElfW(Sxword) tag, std::size_t n) { dynamic.push_back({tag, {.d_val = n}}); };
  add_size(DT_FLAGS, 8);
  if (has_symbols) add(DT_SYMTAB, table.data());
  if (has_strings) add(DT_STRTAB, text.data());
  if (has_gnu) add(DT_GNU_HASH, gnu);
  if (has_hash) add(DT_HASH, elf_hash.data());
  if (has_versions) add(DT_VERSYM, versions.data());
  std::size_t entry = sizeof(ElfW(Rela));
  if (!relocations[0].empty()) {
    add_size(DT_PLTRELSZ, relocations[0].size() * entry);
    add(DT_JMPREL, relocations[0].data());
  }
  if (!relocations[1].empty()) {
    add(DT_RELA, relocations[1].data());
    add_size(DT_RELASZ, relocations[1].size() * entry);
  }
  std::size_t turn = in.below(unsigned(dynamic.size()));  // they come in any order
  std::rotate(dynamic.begin(), dynamic.begin() + long(turn), dynamic.end());
  dynamic.push_back({});  // DT_NULL

  bool has_dynamic = !(with & 128);
  ElfW(Phdr) headers[3] = {};
  headers[0].p_type = PT_LOAD;
  headers[0].p_vaddr = reinterpret_cast<std::uintptr_t>(variables) + 8 - base;
  headers[0].p_memsz = 4;
  headers[1].p_type = has_dynamic ? PT_DYNAMIC : PT_NOTE;
  headers[1].p_vaddr = reinterpret_cast<std::uintptr_t>(dynamic.data()) - base;
  headers[2].p_type = PT_LOAD;
  headers[2].p_vaddr = reinterpret_cast<std::uintptr_t>(variables) + 2 - base;
  headers[2].p_memsz = 3;
  dl_phdr_info info{};
  info.dlpi_addr = base;
  info.dlpi_phdr = headers;
  info.dlpi_phnum = 3;
  char thread_local_block[16];
  if (has_tls) info.dlpi_tls_data = thread_local_block;

  loaded_module m(info);
  for (int i = 0; i < int(sizeof variables); i++)
    expect(m.has(variables + i) == (i >= 2 && i < 12), "it has its mapped addresses");
  bool readable = has_symbols && has_strings && has_dynamic;
  for (unsigned name = 0; name < std::size(names); name++) {
    void* wanted = nullptr;
    for (std::size_t i = has_gnu ? hashed : 0; i < symbols.size() && !wanted; i++) {
      const symbol& s = symbols[i];
      if (!readable || (!has_gnu && !has_hash) || s.name != name || s.section == SHN_UNDEF)
        continue;
      if (s.bind == STB_LOCAL || s.bind == 7 || (has_versions && s.version == 3)) continue;
      if (s.type == STT_SECTION || s.type == STT_COMMON) continue;
      if (s.type == STT_TLS) wanted = has_tls ? thread_local_block + s.value : nullptr;
      else if (s.value) wanted = s.type == STT_GNU_IFUNC ? &chosen : variables + s.value;
    }
    const char* text_of_name = names[name].c_str();
    expect(m.find(text_of_name, loaded_module::hash_of(text_of_name)) == wanted,
           "the first usable symbol of the name is found");
    bool imported = false;
    for (auto& r : relocations) {
      for (const ElfW(Rela) & e : r) {
        const symbol& s = symbols[ELF64_R_SYM(e.r_info)];
        imported |= readable && s.name == name && s.section == SHN_UNDEF;
      }
    }
    expect(m.imports(text_of_name) == imported, "what relocations refer to is imported");
  }
  expect(!m.find("no such", loaded_module::hash_of("no such")), "no other name is found");
  return 0;
}
