/* Loaded before the C library (LD_PRELOAD): counts the calls that change a file below one folder, in all processes of a
   run together, and makes one of them fail, all from one on fail, or kills the run just before it.

   FAULT_FOLDER   the folder, an absolute path without links
   FAULT_STATE    a file that the processes share: the count (8 bytes), then one line for each call that was struck
   FAULT_AT       the number of the call, 0: only count
   FAULT_ERRNO    what it fails with; 0: SIGKILL to the program and to this process instead
   FAULT_STICKY   1: every later call fails, too  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *folder;
static size_t folder_length;
static volatile long *state; /* [0] the count */
#define PROGRAM 100 /* its process group */
static long at, sticky;
static int code;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("FAULT_STATE"), *text;
  folder = getenv("FAULT_FOLDER");
  if (file == NULL || folder == NULL) return;
  folder_length = strlen(folder);
  at = (text = getenv("FAULT_AT")) ? atol(text) : 0;
  code = (text = getenv("FAULT_ERRNO")) ? atoi(text) : 0;
  sticky = (text = getenv("FAULT_STICKY")) ? atol(text) : 0;
  int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (memory != MAP_FAILED) state = memory;
  /* The first process is the program; what it starts has sessions of its own. */
  if (state != NULL) __sync_bool_compare_and_swap(&state[PROGRAM], 0, (long)getpgrp());
}

static int below(const char *path) {
  return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int path_counts(int fd, const char *path) {
  char start[PATH_MAX], name[64];
  if (state == NULL || path == NULL) return 0;
  if (path[0] == '/') return below(path);
  if (fd == AT_FDCWD) strcpy(name, "/proc/self/cwd");
  else snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, start, sizeof start - 1);
  if (length < 0) return 0;
  start[length] = 0;
  return below(start);
}

static int file_counts(int fd) {
  struct stat status;
  if (state == NULL || fstat(fd, &status) != 0 || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) return 0;
  return path_counts(fd, ".");
}

/* -1 with errno set where this call is the one. */
static int strike(const char *name) {
  long number = __sync_add_and_fetch(&state[0], 1);
  if (at == 0 || !(number == at || (sticky && number > at))) return 0;
  if (code == 0) {
    kill(-(pid_t)state[PROGRAM], SIGKILL);
    kill(0, SIGKILL);
    for (;;) pause();
  }
  if (number == at) snprintf((char *)(state + 1), 64, "%s", name);
  errno = code;
  return -1;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (real == NULL) real = dlsym(RTLD_NEXT, #name)

#define ONE_PATH(name, more, ...) \
  int name(const char *path more) { \
    REAL(int, name, const char *more); \
    if (path_counts(AT_FDCWD, path) && strike(#name)) return -1; \
    return real(path __VA_ARGS__); \
  }
#define COMMA ,
ONE_PATH(unlink, , )
ONE_PATH(rmdir, , )
ONE_PATH(mkdir, COMMA mode_t mode, COMMA mode)
ONE_PATH(chmod, COMMA mode_t mode, COMMA mode)
ONE_PATH(truncate, COMMA off_t length, COMMA length)
ONE_PATH(chown, COMMA uid_t user COMMA gid_t group, COMMA user COMMA group)

int rename(const char *old, const char *new) {
  REAL(int, rename, const char *, const char *);
  if ((path_counts(AT_FDCWD, old) || path_counts(AT_FDCWD, new)) && strike("rename")) return -1;
  return real(old, new);
}
int renameat(int a, const char *old, int b, const char *new) {
  REAL(int, renameat, int, const char *, int, const char *);
  if ((path_counts(a, old) || path_counts(b, new)) && strike("renameat")) return -1;
  return real(a, old, b, new);
}
int renameat2(int a, const char *old, int b, const char *new, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned);
  if ((path_counts(a, old) || path_counts(b, new)) && strike("renameat2")) return -1;
  return real(a, old, b, new, flags);
}
int link(const char *old, const char *new) {
  REAL(int, link, const char *, const char *);
  if (path_counts(AT_FDCWD, new) && strike("link")) return -1;
  return real(old, new);
}
int linkat(int a, const char *old, int b, const char *new, int flags) {
  REAL(int, linkat, int, const char *, int, const char *, int);
  if (path_counts(b, new) && strike("linkat")) return -1;
  return real(a, old, b, new, flags);
}
int symlink(const char *old, const char *new) {
  REAL(int, symlink, const char *, const char *);
  if (path_counts(AT_FDCWD, new) && strike("symlink")) return -1;
  return real(old, new);
}
int symlinkat(const char *old, int b, const char *new) {
  REAL(int, symlinkat, const char *, int, const char *);
  if (path_counts(b, new) && strike("symlinkat")) return -1;
  return real(old, b, new);
}
int unlinkat(int fd, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int);
  if (path_counts(fd, path) && strike("unlinkat")) return -1;
  return real(fd, path, flags);
}
int mkdirat(int fd, const char *path, mode_t mode) {
  REAL(int, mkdirat, int, const char *, mode_t);
  if (path_counts(fd, path) && strike("mkdirat")) return -1;
  return real(fd, path, mode);
}
int fchmod(int fd, mode_t mode) {
  REAL(int, fchmod, int, mode_t);
  if (file_counts(fd) && strike("fchmod")) return -1;
  return real(fd, mode);
}
int fchmodat(int fd, const char *path, mode_t mode, int flags) {
  REAL(int, fchmodat, int, const char *, mode_t, int);
  if (path_counts(fd, path) && strike("fchmodat")) return -1;
  return real(fd, path, mode, flags);
}
int utimensat(int fd, const char *path, const struct timespec times[2], int flags) {
  REAL(int, utimensat, int, const char *, const struct timespec *, int);
  if (path_counts(fd, path) && strike("utimensat")) return -1;
  return real(fd, path, times, flags);
}
int futimens(int fd, const struct timespec times[2]) {
  REAL(int, futimens, int, const struct timespec *);
  if (file_counts(fd) && strike("futimens")) return -1;
  return real(fd, times);
}
#define ONE_FILE(type, name, more, ...) \
  type name(int fd more) { \
    REAL(type, name, int more); \
    if (file_counts(fd) && strike(#name)) return -1; \
    return real(fd __VA_ARGS__); \
  }
ONE_FILE(int, fsync, , )
ONE_FILE(int, fdatasync, , )
ONE_FILE(int, syncfs, , )
ONE_FILE(int, ftruncate, COMMA off_t length, COMMA length)
ONE_FILE(int, ftruncate64, COMMA off64_t length, COMMA length)
ONE_FILE(ssize_t, write, COMMA const void *data COMMA size_t length, COMMA data COMMA length)
ONE_FILE(ssize_t, writev, COMMA const struct iovec *parts COMMA int count, COMMA parts COMMA count)
ONE_FILE(ssize_t, pwrite, COMMA const void *data COMMA size_t length COMMA off_t offset, COMMA data COMMA length COMMA offset)
ONE_FILE(ssize_t, pwrite64, COMMA const void *data COMMA size_t length COMMA off64_t offset, COMMA data COMMA length COMMA offset)

#include <sys/sendfile.h>
ssize_t sendfile(int out, int in, off_t *offset, size_t length) {
  REAL(ssize_t, sendfile, int, int, off_t *, size_t);
  if (file_counts(out) && strike("sendfile")) return -1;
  return real(out, in, offset, length);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t length) {
  REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
  if (file_counts(out) && strike("sendfile64")) return -1;
  return real(out, in, offset, length);
}

#define CHANGES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & (O_CREAT | O_TRUNC)))
#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    if (CHANGES(flags) && path_counts(AT_FDCWD, path) && strike(#name)) return -1; \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
  int name(int fd, const char *path, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    if (CHANGES(flags) && path_counts(fd, path) && strike(#name)) return -1; \
    return real(fd, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)
