// Functions and variables of the program and the libraries that it was started with, by name.
//
// dlsym(3) will not do: every call discards the error that the program may be about to read with
// dlerror(3), and frees the text of the previous one; and it takes the loader's lock, which a
// thread may hold while it waits for another.
#pragma once

namespace tendril::core {

// The first definition in load order, starting behind the module that contains `behind` if that is
// not null; null if there is none. Like dlsym() with RTLD_DEFAULT and RTLD_NEXT, it picks the
// default version. Of a thread-local variable it returns the main kernel thread's instance.
void* find_symbol(const char* name, const void* behind = nullptr) noexcept;

// The same in one library, named by its file name, which may have been loaded after the start.
// Takes the loader's lock.
void* find_symbol_in(const char* library, const char* name) noexcept;

}  // namespace tendril::core
