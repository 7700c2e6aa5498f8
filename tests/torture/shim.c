/* Between a process and the kernel, for the files of one store only: what is done to them is
 * recorded, fails by a seeded plan, or is the last thing that the process does. The wall clock can
 * be made to jump. Preloaded (LD_PRELOAD); idle until `torture_plan` or $KAPLA_TORTURE tells it of
 * a store. tests/torture/shim.py is the other side of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { MARK, CREATE, WRITE, TRUNCATE, SYNC, UNLINK, SYNC_DIRECTORY, RENAME, OPEN_FILE };
enum { MOST_FILES = 64, MOST_FDS = 65536, DIRECTORY = MOST_FILES + 1 };

/* Chances are of a million, for each operation from `first` on and before `last`. */
struct plan {
    uint64_t seed;
    uint32_t write_error, torn_error, short_write, no_room, sync_error, clock_jump;
    uint64_t first, last;
    uint64_t kill_at; /* the operation at which the process is killed; 0: none */
    uint64_t most;    /* bytes that a file may grow to; 0: as many as there is room for */
};

struct record {
    uint32_t kind, file;
    uint64_t offset, length; /* `length` bytes of data follow a WRITE; a name follows CREATE, OPEN_FILE, UNLINK and
                                RENAME */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char store[PATH_MAX];
static size_t store_length;
static char names[MOST_FILES][NAME_MAX + 1];
static unsigned char files[MOST_FDS]; /* by descriptor: 1 + index in `names`, 0 for others */
static struct plan plan;
static uint64_t state, operations, faults;
static int64_t offset_s;
static int recording;
static unsigned char *records;
static size_t used, room;

#define REAL(name) ((__typeof__(&name))real_##name())
#define LOOK_UP(name)                                                                              \
    static void *real_##name(void) {                                                               \
        static void *found;                                                                        \
        if (!found)                                                                                \
            found = dlsym(RTLD_NEXT, #name);                                                       \
        return found;                                                                              \
    }

LOOK_UP(open) LOOK_UP(open64) LOOK_UP(openat) LOOK_UP(openat64) LOOK_UP(close) LOOK_UP(write)
LOOK_UP(pwrite64) LOOK_UP(ftruncate64) LOOK_UP(posix_fallocate64) LOOK_UP(fsync)
LOOK_UP(fdatasync) LOOK_UP(unlink) LOOK_UP(rename) LOOK_UP(clock_gettime) LOOK_UP(gettimeofday)

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int chance(uint32_t of_a_million) {
    return of_a_million && draw() % 1000000 < of_a_million;
}

static void put(const void *data, size_t length) {
    if (used + length > room) {
        room = 2 * (used + length);
        records = realloc(records, room);
        if (!records)
            abort();
    }
    memcpy(records + used, data, length);
    used += length;
}

static void record(uint32_t kind, uint32_t file, uint64_t offset, const void *data, uint64_t length) {
    struct record entry = {kind, file, offset, length};
    if (!recording)
        return;
    put(&entry, sizeof entry);
    if (data)
        put(data, length);
}

/* Index of the store's file at a path; -1 for what is none, or is only memory and locks. */
static int file_at(const char *path) {
    if (!store_length || strncmp(path, store, store_length))
        return -1;
    const char *end = path + store_length;
    if (strchr(end, '/') || strlen(end) > NAME_MAX || !strcmp(end, "-shm") || !strcmp(end, ".lock"))
        return -1;
    for (int index = 0; index < MOST_FILES; index++) {
        if (!names[index][0])
            snprintf(names[index], sizeof names[index], "=%s", end);
        if (!strcmp(names[index] + 1, end))
            return index;
    }
    return -1;
}

static int is_directory(const char *path) {
    size_t length = strlen(path);
    return store_length && length < store_length && !strncmp(path, store, length) &&
           store[length] == '/' && !strchr(store + length + 1, '/');
}

static void opened(int fd, const char *path, int flags, int was_there) {
    if (fd < 0 || fd >= MOST_FDS)
        return;
    pthread_mutex_lock(&lock);
    int index = file_at(path);
    files[fd] = index >= 0 ? index + 1 : is_directory(path) ? DIRECTORY : 0;
    if (index >= 0)
        record(was_there ? OPEN_FILE : CREATE, index, 0, names[index] + 1,
               strlen(names[index] + 1));
    if (index >= 0 && was_there && flags & O_TRUNC)
        record(TRUNCATE, index, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
}

static int exists(const char *path) {
    struct stat status;
    return store_length && stat(path, &status) == 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                    \
        va_end(rest);                                                                              \
        int was_there = exists(path);                                                              \
        int fd = REAL(name)(path, flags, mode);                                                    \
        opened(fd, path, flags, was_there);                                                        \
        return fd;                                                                                 \
    }
#define OPENAT(name)                                                                               \
    int name(int at, const char *path, int flags, ...) {                                           \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                    \
        va_end(rest);                                                                              \
        int was_there = exists(path);                                                              \
        int fd = REAL(name)(at, path, flags, mode);                                                \
        opened(fd, path, flags, was_there);                                                        \
        return fd;                                                                                 \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < MOST_FDS)
        files[fd] = 0;
    return REAL(close)(fd);
}

static int of_store(int fd) { return fd >= 0 && fd < MOST_FDS && files[fd]; }

/* Counts an operation; returns whether faults may befall it now. The lock is held. */
static int count(void) {
    operations++;
    return operations >= plan.first && operations < plan.last;
}

static void die_if_due(void) {
    if (plan.kill_at && operations >= plan.kill_at)
        kill(getpid(), SIGKILL);
}

static ssize_t fail(int error) {
    faults++;
    errno = error;
    return -1;
}

static ssize_t really_write(int fd, const void *data, size_t length, off64_t offset) {
    ssize_t done = REAL(pwrite64)(fd, data, length, offset);
    if (done > 0)
        record(WRITE, files[fd] - 1, offset, data, done);
    return done;
}

static ssize_t store_write(int fd, const void *data, size_t length, off64_t offset) {
    int is_faulty = count();
    if (plan.kill_at && operations >= plan.kill_at) {
        really_write(fd, data, draw() % (length + 1), offset);
        die_if_due();
    }
    if (is_faulty && chance(plan.write_error))
        return fail(EIO);
    if (is_faulty && chance(plan.no_room))
        return fail(ENOSPC);
    if (is_faulty && chance(plan.torn_error)) {
        really_write(fd, data, draw() % length & ~(size_t)511, offset);
        return fail(EIO);
    }
    if (is_faulty && length > 1 && chance(plan.short_write)) {
        faults++;
        return really_write(fd, data, 1 + draw() % (length - 1), offset);
    }
    if (plan.most && offset + length > plan.most) {
        if ((uint64_t)offset >= plan.most)
            return fail(ENOSPC);
        return really_write(fd, data, plan.most - offset, offset);
    }
    return really_write(fd, data, length, offset);
}

static ssize_t locked_write(int fd, const void *data, size_t length, off64_t offset) {
    pthread_mutex_lock(&lock);
    ssize_t done = store_write(fd, data, length, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    return of_store(fd) ? locked_write(fd, data, length, offset)
                        : REAL(pwrite64)(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!of_store(fd))
        return REAL(write)(fd, data, length);
    off64_t offset = lseek64(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = locked_write(fd, data, length, offset);
    if (done > 0)
        lseek64(fd, offset + done, SEEK_SET);
    return done;
}

int ftruncate64(int fd, off64_t length) {
    if (!of_store(fd))
        return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&lock);
    int is_faulty = count();
    die_if_due();
    int done = is_faulty && chance(plan.write_error) ? fail(EIO) : REAL(ftruncate64)(fd, length);
    if (done == 0)
        record(TRUNCATE, files[fd] - 1, length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    if (!of_store(fd))
        return REAL(posix_fallocate64)(fd, offset, length);
    pthread_mutex_lock(&lock);
    int is_faulty = count();
    die_if_due();
    struct stat64 before;
    fstat64(fd, &before);
    int done = ENOSPC;
    if (is_faulty && chance(plan.no_room))
        faults++;
    else if (plan.most && (uint64_t)(offset + length) > plan.most)
        faults++;
    else
        done = REAL(posix_fallocate64)(fd, offset, length);
    if (done == 0 && before.st_size < offset + length)
        record(TRUNCATE, files[fd] - 1, offset + length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int posix_fallocate(int fd, off_t offset, off_t length) {
    return posix_fallocate64(fd, offset, length);
}

static int synced(int fd, int (*sync)(int)) {
    pthread_mutex_lock(&lock);
    int is_faulty = count();
    die_if_due();
    int is_directory = files[fd] == DIRECTORY;
    /* Where the disk is not asked to keep anything, as in memory, there is nothing to wait for. */
    int done = is_faulty && chance(plan.sync_error) ? fail(EIO) : recording ? 0 : sync(fd);
    if (done == 0)
        record(is_directory ? SYNC_DIRECTORY : SYNC, files[fd] - 1, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return of_store(fd) ? synced(fd, REAL(fsync)) : REAL(fsync)(fd); }

int fdatasync(int fd) { return of_store(fd) ? synced(fd, REAL(fdatasync)) : REAL(fdatasync)(fd); }

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int index = file_at(path);
    if (index >= 0) {
        count();
        die_if_due();
    }
    int done = REAL(unlink)(path);
    if (index >= 0 && done == 0)
        record(UNLINK, index, 0, names[index] + 1, strlen(names[index] + 1));
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int source = file_at(from), target = file_at(to);
    if (source >= 0 && target >= 0) {
        count();
        die_if_due();
    }
    int done = REAL(rename)(from, to);
    if (done == 0 && source >= 0)
        record(OPEN_FILE, source, 0, names[source] + 1, strlen(names[source] + 1));
    if (done == 0 && source >= 0 && target >= 0)
        record(RENAME, source, target, names[target] + 1, strlen(names[target] + 1));
    pthread_mutex_unlock(&lock);
    return done;
}

static int64_t wall_offset(void) {
    static const int64_t far[] = {1, 60, 3600, 86400, 34560000};
    if (!plan.clock_jump)
        return 0;
    pthread_mutex_lock(&lock);
    if (chance(plan.clock_jump)) {
        int64_t most = far[draw() % 5];
        offset_s = (int64_t)(draw() % (2 * most + 1)) - most;
    }
    int64_t found = offset_s;
    pthread_mutex_unlock(&lock);
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = REAL(clock_gettime)(clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += wall_offset();
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    int done = REAL(gettimeofday)(now, zone);
    if (done == 0)
        now->tv_sec += wall_offset();
    return done;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

/* From here on: what tests/torture/shim.py calls. */

void torture_plan(const char *path, const struct plan *wanted, int is_recording) {
    pthread_mutex_lock(&lock);
    snprintf(store, sizeof store, "%s", path);
    store_length = strlen(store);
    plan = *wanted;
    state = plan.seed * 2685821657736338717ULL + 88172645463325252ULL;
    operations = faults = used = 0;
    offset_s = 0;
    recording = is_recording;
    memset(names, 0, sizeof names);
    memset(files, 0, sizeof files);
    pthread_mutex_unlock(&lock);
}

void torture_stop(void) {
    pthread_mutex_lock(&lock);
    store_length = 0;
    recording = 0;
    memset(&plan, 0, sizeof plan);
    memset(files, 0, sizeof files);
    pthread_mutex_unlock(&lock);
}

void torture_mark(uint64_t number) {
    pthread_mutex_lock(&lock);
    record(MARK, 0, number, NULL, 0);
    pthread_mutex_unlock(&lock);
}

const unsigned char *torture_records(uint64_t *length) {
    *length = used;
    return records;
}

uint64_t torture_faults(void) { return faults; }

uint64_t torture_operations(void) { return operations; }

__attribute__((constructor)) static void from_environment(void) {
    const char *told = getenv("KAPLA_TORTURE");
    const char *path = getenv("KAPLA_TORTURE_STORE");
    struct plan wanted;
    memset(&wanted, 0, sizeof wanted);
    if (!told || !path)
        return;
    if (sscanf(told, "%lu:%u:%u:%u:%u:%u:%u:%lu:%lu:%lu:%lu", &wanted.seed, &wanted.write_error,
               &wanted.torn_error, &wanted.short_write, &wanted.no_room, &wanted.sync_error,
               &wanted.clock_jump, &wanted.first, &wanted.last, &wanted.kill_at,
               &wanted.most) == 11)
        torture_plan(path, &wanted, 0);
}
