#include "privilege.hpp"

#include <endian.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace tendril::launcher {

namespace {

bool raises_capabilities(int fd, bool may_gain) {
  vfs_ns_cap_data caps = {};
  ssize_t size = fgetxattr(fd, "security.capability", &caps, sizeof caps);
  if (size < (ssize_t)XATTR_CAPS_SZ_1) return false;
  // The kernel treats the effective flag as a raise even where no_new_privs prevents any gain.
  if (le32toh(caps.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) return true;
  // The layouts differ only after the first permitted word; missing words read as 0.
  return may_gain && (caps.data[0].permitted || caps.data[1].permitted);
}

}  // namespace

std::string privilege_raised(int fd, const struct stat& st) {
  struct statvfs mount;
  bool nosuid = fstatvfs(fd, &mount) == 0 && (mount.f_flag & ST_NOSUID);
  bool honoured = !nosuid && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;

  // The kernel compares the new effective id with the old real one, so root gains nothing from a
  // setuid-root file.
  uid_t uid = honoured && (st.st_mode & S_ISUID) ? st.st_uid : geteuid();
  if (uid != getuid()) return "setuid to user " + std::to_string(uid);
  // without S_IXGRP, S_ISGID means mandatory locking
  constexpr mode_t setgid = S_ISGID | S_IXGRP;
  gid_t gid = honoured && (st.st_mode & setgid) == setgid ? st.st_gid : getegid();
  if (gid != getgid()) return "setgid to group " + std::to_string(gid);
  if (!nosuid && getuid() != 0 && raises_capabilities(fd, honoured)) return "has file capabilities";
  return {};
}

}  // namespace tendril::launcher
