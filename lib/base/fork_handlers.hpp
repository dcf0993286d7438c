// What is due in a child process: by fork(2), for which the C library calls it, and by clone(2)
// without CLONE_VM, for which nobody does but posix::clone.
#pragma once

namespace tendril::core {

// `child` is called in every child from now on, `prepare` in the parent before it is made. Once
// (posix/process_state.cpp).
void at_fork(void (*prepare)() noexcept, void (*child)() noexcept) noexcept;

// For who makes a child behind the C library's back.
void prepare_for_child() noexcept;
void begin_child(bool shares_descriptors) noexcept;

// In a child's handler: whether its descriptors are the parent's as well (CLONE_FILES): then none
// is to be closed.
bool child_shares_descriptors() noexcept;

}  // namespace tendril::core
