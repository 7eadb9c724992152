/* Makes the Nth write or sync of the store's files fail: loaded before libc into the program under test.
 *
 * FAULT_PATH   part of the path of the files meant
 * FAULT_AT     which call fails first, from 1; 0: none
 * FAULT_ON     1: all later ones too
 * FAULT_ERRNO  what they fail with
 * FAULT_WRITES 1: only writes fail, as on a disk that is merely full
 *
 * A write that fails has written half of its bytes, as real ones do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const char *path_part;
static long fail_at, calls;
static int fail_on, fail_errno, writes_only;

__attribute__((constructor)) static void begin(void)
{
    path_part = getenv("FAULT_PATH");
    fail_at = atol(getenv("FAULT_AT") ? getenv("FAULT_AT") : "0");
    fail_on = getenv("FAULT_ON") && *getenv("FAULT_ON") == '1';
    fail_errno = atoi(getenv("FAULT_ERRNO") ? getenv("FAULT_ERRNO") : "5");
    writes_only = getenv("FAULT_WRITES") && *getenv("FAULT_WRITES") == '1';
    dprintf(2, "shim: loaded\n");
}

static int fails(int fd, const char *what)
{
    char link[64], path[4096];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0 || !path_part || (writes_only && *what == 'f'))
        return 0;
    path[length] = 0;
    if (!strstr(path, path_part))
        return 0;
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!fail_at || call < fail_at || (call > fail_at && !fail_on))
        return 0;
    if (call == fail_at)
        dprintf(2, "shim: %s number %ld of %s fails\n", what, call, path);
    errno = fail_errno;
    return 1;
}

#define REAL(name, ...) \
    static int (*real)(__VA_ARGS__); \
    if (!real) \
        real = (int (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define PWRITE(name) \
    ssize_t name(int fd, const void *bytes, size_t count, off_t offset) \
    { \
        static ssize_t (*real)(int, const void *, size_t, off_t); \
        if (!real) \
            real = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, #name); \
        if (fails(fd, #name)) { \
            int code = errno; \
            (void)!real(fd, bytes, count / 2, offset); \
            errno = code; \
            return -1; \
        } \
        return real(fd, bytes, count, offset); \
    }

PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *bytes, size_t count)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return fails(fd, "write") ? -1 : real(fd, bytes, count);
}

int fsync(int fd)
{
    REAL("fsync", int);
    return fails(fd, "fsync") ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL("fdatasync", int);
    return fails(fd, "fdatasync") ? -1 : real(fd);
}

int ftruncate(int fd, off_t length)
{
    REAL("ftruncate", int, off_t);
    return fails(fd, "ftruncate") ? -1 : real(fd, length);
}

int ftruncate64(int fd, off_t length)
{
    REAL("ftruncate64", int, off_t);
    return fails(fd, "ftruncate64") ? -1 : real(fd, length);
}
