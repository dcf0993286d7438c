// What has to be done in a child process. After fork(2) the C library calls it; after clone(2)
// without CLONE_VM only posix::clone does.
#pragma once

namespace tendril::core {

// Registers `child`, called in every child from now on, `prepare`, called in the parent before each
// child is made, and `parent`, called there afterwards, whether there is a child or not. To be
// called once (by posix/process_state.cpp).
void at_fork(void (*prepare)() noexcept, void (*parent)() noexcept,
             void (*child)() noexcept) noexcept;

// For code that makes a child without the C library.
void prepare_for_child() noexcept;
void parent_continues() noexcept;
void begin_child(bool shares_descriptors) noexcept;

// In a child's handler: whether the child shares the parent's descriptor table (CLONE_FILES), so
// that it must not close any.
bool child_shares_descriptors() noexcept;

}  // namespace tendril::core
