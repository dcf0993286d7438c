// Functions and variables of the program and the libraries that it was started with, by name.
//
// Not by dlsym(3): every call of that forgets the error which the program may be about to ask for
// by dlerror(3), and frees the text of the last one; and it takes the loader's lock, which a thread
// may hold while it waits for another.
#pragma once

namespace tendril::core {

// The first definition in the order of loading, behind the module with the code at `behind` if that
// is not null; null: there is none. As dlsym() has it with RTLD_DEFAULT and RTLD_NEXT, the default
// version is meant. Of a thread-local variable: the main kernel thread's.
void* find_symbol(const char* name, const void* behind = nullptr) noexcept;

// The same in one library that may have been loaded since, named by its file's name. Takes the
// loader's lock.
void* find_symbol_in(const char* library, const char* name) noexcept;

}  // namespace tendril::core
