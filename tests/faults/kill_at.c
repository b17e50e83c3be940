/* Kills its process before the n-th call that changes something below a folder, or has it fail.
 *
 * Loaded before all other libraries, so that Python, Arrow, SQLite, polars and safetensors pass
 * through here on their way to the file system. Nothing is counted until kill_at_arm is called, or
 * where the environment says KILL_AT_FOLDER: then from the start, and the count is written at the
 * end to the file KILL_AT_COUNT.
 */
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t root_length;
static long target, count;
static volatile int armed;
static int failing, lasting; /* instead of dying: an errno; whether all later growth fails too */

/* Count from now on what changes below `folder`; die before call number `n`, never where 0. */
void kill_at_arm(const char *folder, long n) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    target = n;
    count = 0;
    failing = lasting = 0;
    armed = 1;
}

/* Have call number n fail with an errno; `lasting` is a disk that stays full: from then on all that
 * would make something grow fails, and nothing else. */
void kill_at_fail(const char *folder, long n, int error, int stays) {
    kill_at_arm(folder, n);
    failing = error;
    lasting = stays;
}

long kill_at_count(void) { return count; }

__attribute__((constructor)) static void arm_at_start(void) {
    const char *folder = getenv("KILL_AT_FOLDER"), *at = getenv("KILL_AT");
    if (folder) kill_at_arm(folder, at ? atol(at) : 0);
}

__attribute__((destructor)) static void say_count(void) {
    const char *place = getenv("KILL_AT_COUNT");
    long counted = count;
    if (!place || !getenv("KILL_AT_FOLDER") || !counted) return;
    armed = 0;
    long most = 0;  /* of a command's processes, the one that changes most */
    FILE *file = fopen(place, "r");
    if (file) {
        if (fscanf(file, "%ld", &most) != 1) most = 0;
        fclose(file);
    }
    if (most < counted && (file = fopen(place, "w"))) {
        fprintf(file, "%ld", counted);
        fclose(file);
    }
}

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0');
}

static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = '\0';
    return below(path);
}

/* Whether the call has to fail. */
static int step(int counts, int grows) {
    if (!counts) return 0;
    long number = __sync_add_and_fetch(&count, 1);
    if (!target || (lasting ? number < target || !grows : number != target)) return 0;
    if (!failing) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = failing;
    return 1;
}

static int at_path(int folder, const char *path, int grows) {
    if (!armed || !path) return 0;
    return step(path[0] == '/' || folder == AT_FDCWD ? below(path) : fd_below(folder), grows);
}

static int at_fd(int fd, int grows) {
    return armed ? step(fd_below(fd), grows) : 0;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND))

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        } \
        if (CHANGES(flags) && at_path(AT_FDCWD, path, !!(flags & O_CREAT))) return -1; \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        } \
        if (CHANGES(flags) && at_path(folder, path, !!(flags & O_CREAT))) return -1; \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        if (strpbrk(mode, "wa+") && at_path(AT_FDCWD, path, 1)) return NULL; \
        return real(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

/* The first argument is a path. */
#define PATH1(type, name, grows, rest, given) \
    type name rest { REAL(name); return at_path(AT_FDCWD, path, grows) ? -1 : real given; }
PATH1(int, creat, 1, (const char *path, mode_t mode), (path, mode))
PATH1(int, mkdir, 1, (const char *path, mode_t mode), (path, mode))
PATH1(int, rmdir, 0, (const char *path), (path))
PATH1(int, unlink, 0, (const char *path), (path))
PATH1(int, remove, 0, (const char *path), (path))
PATH1(int, truncate, 0, (const char *path, off_t length), (path, length))
PATH1(int, rename, 0, (const char *path, const char *to), (path, to))
PATH1(int, link, 1, (const char *path, const char *to), (path, to))

#define AT1(name, grows, rest, given) \
    int name rest { REAL(name); return at_path(folder, path, grows) ? -1 : real given; }
AT1(mkdirat, 1, (int folder, const char *path, mode_t mode), (folder, path, mode))
AT1(unlinkat, 0, (int folder, const char *path, int flags), (folder, path, flags))
AT1(utimensat, 0, (int folder, const char *path, const struct timespec times[2], int flags),
    (folder, path, times, flags))
AT1(renameat, 0, (int folder, const char *path, int other, const char *to), (folder, path, other, to))
AT1(renameat2, 0, (int folder, const char *path, int other, const char *to, unsigned int flags),
    (folder, path, other, to, flags))

/* The first argument is an open file. */
#define FD1(type, name, grows, rest, given) \
    type name rest { REAL(name); return at_fd(fd, grows) ? -1 : real given; }
FD1(ssize_t, write, 1, (int fd, const void *data, size_t size), (fd, data, size))
FD1(ssize_t, writev, 1, (int fd, const struct iovec *parts, int n), (fd, parts, n))
FD1(ssize_t, pwrite, 1, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FD1(ssize_t, pwrite64, 1, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FD1(int, ftruncate, 0, (int fd, off_t length), (fd, length))
FD1(int, ftruncate64, 0, (int fd, off64_t length), (fd, length))
FD1(int, fsync, 0, (int fd), (fd))
FD1(int, fdatasync, 0, (int fd), (fd))
FD1(ssize_t, sendfile, 1, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
FD1(ssize_t, sendfile64, 1, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
