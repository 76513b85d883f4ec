/* Faults that a file system and a clock can have, for a process that preloads this library (LD_PRELOAD).

   FAULT_UNDER=DIR      only files in this folder are hurt; without it, none is
   FAULT_FROM=N         the N-th call that writes there fails, and all after it; see writes_counted
   FAULT_ERRNO=E        with this error; 28, which says that the disk is full, unless it is given
   FAULT_CLOCK=J,P      every P seconds the clock jumps by J seconds forward, and P seconds later back again

   The variables are read at each call, so a process may set them after its start. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long count;

long writes_counted(void) { return count; }

/* Return the error of a call that writes to this path; 0 if it may go on. */
static int fault_at(const char *path) {
    const char *under = getenv("FAULT_UNDER"), *from = getenv("FAULT_FROM"), *error = getenv("FAULT_ERRNO");
    if (!under || !path || strncmp(path, under, strlen(under))) return 0;
    count++;
    return from && count >= atol(from) ? (error ? atoi(error) : ENOSPC) : 0;
}

static int fault_of(int file) {
    char link[64], path[PATH_MAX];
    int before = errno;
    ssize_t size;
    if (!getenv("FAULT_UNDER")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0) return 0;
    path[size] = 0;
    return fault_at(path);
}

#define FAIL_IF(fault)                                                                                       \
    do {                                                                                                     \
        int error = (fault);                                                                                 \
        if (error) {                                                                                         \
            errno = error;                                                                                   \
            return -1;                                                                                       \
        }                                                                                                    \
    } while (0)
#define ON_FILE(type, name, file, typed, given)                                                              \
    type name typed {                                                                                        \
        FAIL_IF(fault_of(file));                                                                             \
        return NEXT(name) given;                                                                             \
    }

ON_FILE(ssize_t, write, file, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, writev, file, (int file, const struct iovec *parts, int n), (file, parts, n))
ON_FILE(ssize_t, pwrite, file, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE(ssize_t, pwrite64, file, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(int, ftruncate, file, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, file, (int file, off64_t size), (file, size))
ON_FILE(int, fallocate, file, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
ON_FILE(int, fallocate64, file, (int file, int mode, off64_t at, off64_t size), (file, mode, at, size))

int posix_fallocate(int file, off_t at, off_t size) {
    int error = fault_of(file);
    return error ? error : NEXT(posix_fallocate)(file, at, size);
}

int rename(const char *from, const char *to) {
    FAIL_IF(fault_at(to));
    return NEXT(rename)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    FAIL_IF(fault_at(path));
    return NEXT(mkdir)(path, mode);
}

#define OPENING(name)                                                                                        \
    int name(const char *path, int flags, ...) {                                                             \
        va_list rest;                                                                                        \
        mode_t mode = 0;                                                                                     \
        if (flags & O_CREAT) {                                                                               \
            va_start(rest, flags);                                                                           \
            mode = va_arg(rest, mode_t);                                                                     \
            va_end(rest);                                                                                    \
            FAIL_IF(fault_at(path));                                                                         \
        }                                                                                                    \
        return NEXT(name)(path, flags, mode);                                                                \
    }

OPENING(open)
OPENING(open64)

/* Return how many seconds the clock is wrong at this moment. */
static long jump(void) {
    const char *text = getenv("FAULT_CLOCK");
    struct timespec now;
    long seconds;
    double period;
    if (!text || sscanf(text, "%ld,%lf", &seconds, &period) != 2) return 0;
    NEXT(clock_gettime)(CLOCK_MONOTONIC, &now);
    return (long)((now.tv_sec + now.tv_nsec / 1e9) / period) % 2 ? seconds : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = NEXT(clock_gettime)(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    int result = NEXT(gettimeofday)(now, zone);
    if (!result) now->tv_sec += jump();
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
